//! `[[grant]]`: the grantee, and the rights that the grant gives.

use crate::config::checker::Checker;
use crate::config::few::few_names;
use crate::config::finding::Finding;
use crate::config::model::Identity;
use crate::config::raw::{self, Text};
use crate::config::sections::{accounts, limits};
use luassl_protocol::ProtocolVersion;
use luassl_settings::{Grant, Grantee};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Checks every grant. A grant that does not have exactly one grantee is an error and is left out.
pub(crate) fn check(
    checker: &mut Checker<'_>,
    file: &raw::File,
    identities: &BTreeMap<String, Identity>,
) -> Vec<Grant> {
    file.grant
        .iter()
        .filter_map(|raw| {
            for text in raw.get_ref().identities.iter().filter(|text| text.get_ref() != "*") {
                refers_to_identity(checker, text, file, identities);
            }
            for text in raw.get_ref().listeners.iter().filter(|text| text.get_ref() != "*") {
                checker.refers(text, "listener", names(&file.listener));
            }
            let trusts = raw.get_ref().trusts.iter().flatten().filter(|text| text.get_ref() != "system");
            for text in trusts {
                checker.refers(text, "trust", names(&file.trust));
            }
            grant(checker, raw.span(), raw.get_ref(), file)
        })
        .collect()
}

/// Warns about identities that no grant lists and that are therefore unusable. There is one warning for each
/// declared identity, and one for all identities from directories.
pub(crate) fn named_by_none(
    checker: &mut Checker<'_>,
    file: &raw::File,
    identities: &BTreeMap<String, Identity>,
) {
    let granted = file.grant.iter().flat_map(|grant| &grant.get_ref().identities).map(|text| text.get_ref());
    let granted: BTreeSet<&String> = granted.collect();
    if granted.contains(&"*".to_owned()) {
        return;
    }
    const HINT: &str = "add it to `identities` of a [[grant]], or remove it";
    let of_none = |(name, _): &(&String, &Identity)| !granted.contains(name);
    let mut found = Vec::new();
    for (name, identity) in identities.iter().filter(of_none) {
        if identity.discovered {
            found.push(name.as_str());
        } else {
            let cause = format!("no grant lists identity `{name}`, so nothing can use it");
            checker.findings.push(Finding::warning(identity.location.clone(), cause).hint(HINT));
        }
    }
    if let Some(directory) = file.identities.directory.as_ref().filter(|_| !found.is_empty()) {
        let cause = format!("no grant lists these identities, so nothing can use them: {}", few_names(found));
        let location = checker.source.location(directory.span());
        checker.findings.push(Finding::warning(location, cause).hint(HINT));
    }
}

/// Returns the names of tables.
pub(crate) fn names<T>(tables: &raw::Tables<T>) -> impl Iterator<Item = &str> {
    tables.keys().map(|name| name.get_ref().as_str())
}

/// Checks a reference to an identity. An unknown identity is an error. If a directory may provide it later,
/// it is only a warning, because a removed certificate must not prevent the next reload.
pub(crate) fn refers_to_identity(
    checker: &mut Checker<'_>,
    text: &Text,
    file: &raw::File,
    identities: &BTreeMap<String, Identity>,
) {
    let before = checker.findings.len();
    let known = checker.refers(text, "identity", identities.keys().map(String::as_str));
    if !known && file.identities.directory.is_some() {
        for finding in checker.findings.split_off(before) {
            let warning = Finding { severity: crate::config::finding::Severity::Warning, ..finding };
            checker.findings.push(warning);
        }
    }
}

fn grant(checker: &mut Checker<'_>, span: Range<usize>, raw: &raw::Grant, file: &raw::File) -> Option<Grant> {
    let grantee = grantee(checker, span, raw, file);
    let roles = checker.roles(raw.roles.as_ref());
    let minimum_protocol = minimum_protocol(checker, raw.minimum_protocol.as_ref());
    let max_connections = limits::quota(checker, raw.max_connections.as_ref());
    let max_contexts = limits::quota(checker, raw.max_contexts.as_ref());
    let texts = |texts: &raw::Texts| texts.iter().map(|text| text.get_ref().clone()).collect();
    Some(Grant {
        grantee: grantee?,
        identities: texts(&raw.identities),
        server: roles.server,
        client: roles.client,
        listeners: texts(&raw.listeners),
        listen: raw.listen.unwrap_or(true),
        connect: raw.connect.unwrap_or(true),
        minimum_protocol,
        verify_required: raw.verify_required,
        key_log: raw.key_log,
        rsa_key_exchange: raw.rsa_key_exchange,
        dhe: raw.dhe,
        audit: raw.audit,
        trusts: raw.trusts.as_ref().map(texts),
        max_connections,
        max_contexts,
    })
}

fn grantee(
    checker: &mut Checker<'_>,
    span: Range<usize>,
    raw: &raw::Grant,
    file: &raw::File,
) -> Option<Grantee> {
    match (&raw.user, &raw.group, &raw.socket) {
        (Some(user), None, None) => checker.account(user, "user", accounts::uid_of).map(Grantee::User),
        (None, Some(group), None) => checker.account(group, "group", accounts::gid_of).map(Grantee::Group),
        (None, None, Some(socket)) => {
            let known = checker.refers(socket, "socket", names(&file.socket));
            known.then(|| Grantee::Socket(socket.get_ref().clone()))
        }
        (None, None, None) => {
            checker.error(span, "the grant names no grantee", "set one of `user`, `group` and `socket`");
            None
        }
        _ => {
            checker.error(
                span,
                "the grant names more than one grantee",
                "set exactly one of `user`, `group` and `socket`, and write a separate [[grant]] for each",
            );
            None
        }
    }
}

fn minimum_protocol(checker: &mut Checker<'_>, text: Option<&Text>) -> ProtocolVersion {
    let Some(text) = text else { return ProtocolVersion::Tls12 };
    match text.get_ref().as_str() {
        "TLSv1.2" => ProtocolVersion::Tls12,
        "TLSv1.3" => ProtocolVersion::Tls13,
        other => {
            checker.error(text.span(), format!("unknown protocol `{other}`"), "use TLSv1.2 or TLSv1.3");
            ProtocolVersion::Tls12
        }
    }
}
