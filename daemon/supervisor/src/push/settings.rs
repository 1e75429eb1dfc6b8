//! What one front is told of the configuration: its own part, and no paths to open.

use super::{Outcome, Report, Trusts};
use crate::config::{Config, Front, Identity, Selection};
use luassl_settings::{Grant, Grantee, IdentitySettings, Settings};
use std::collections::BTreeMap;

/// The settings of front `name`. `report` is the keeper's word about the identities; none where it was not asked.
pub fn for_front(
    name: &str,
    front: &Front,
    config: &Config,
    trusts: &Trusts,
    report: Option<&Report>,
) -> Settings {
    Settings {
        front: name.to_owned(),
        grants: config.grants.iter().filter(|grant| concerns(front, grant)).cloned().collect(),
        identities: identities(front, config, report),
        trusts: trusts.clone(),
        listeners: front.listeners.iter().cloned().collect(),
        limits: config.limits.clone(),
        session_lifetime_s: config.tickets.lifetime,
        ..Settings::default()
    }
}

/// A grant to a named control socket is for the front that serves it.
pub(super) fn concerns(front: &Front, grant: &Grant) -> bool {
    match &grant.grantee {
        Grantee::Socket(socket) => front.sockets.contains(socket),
        Grantee::User(_) | Grantee::Group(_) => true,
    }
}

fn identities(front: &Front, config: &Config, report: Option<&Report>) -> BTreeMap<String, IdentitySettings> {
    let outcome = |name: &str| report.and_then(|report| report.outcomes.get(name));
    let own = |name: &str| match &front.identities {
        Selection::All => true,
        Selection::Only(names) => names.contains(name),
    };
    config
        .identities
        .iter()
        .filter(|(name, _)| own(name) && outcome(name) != Some(&Outcome::NoIdentity))
        .map(|(name, identity)| (name.clone(), settings(identity, outcome(name))))
        .collect()
}

fn settings(identity: &Identity, outcome: Option<&Outcome>) -> IdentitySettings {
    let fault = match outcome {
        Some(Outcome::Failed { cause, .. }) => Some(cause.clone()),
        _ => None,
    };
    IdentitySettings { aliases: identity.other_names(), fault }
}
