//! The settings of one front: its part of the configuration, without paths to open.

use crate::config::{Config, Front, Identity, Selection};
use crate::push::report::{Outcome, Report};
use crate::push::trust::Trusts;
use luassl_settings::{Grant, Grantee, IdentitySettings, Settings};
use std::collections::BTreeMap;

/// The maximum size of the reasons why discovered identities could not be loaded, in bytes of the settings of
/// a front. The names of these identities have their own limit
/// ([`DISCOVERED_BYTES`](crate::config::DISCOVERED_BYTES)). The owner of a directory therefore cannot make
/// the settings too large.
const CAUSES_MAX: usize = 4 << 20;

/// The text that replaces the causes beyond that limit.
const UNTOLD: &str = "its files cannot be used";

/// Returns the settings of the front `name`. `report` is the keeper's report on the identities; `None` if the
/// keeper was not queried.
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
    }
}

/// Returns whether a grant concerns a front. A grant to a named control socket concerns the front that serves
/// the socket.
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
    let mut capacity = CAUSES_MAX;
    config
        .identities
        .iter()
        .filter(|(name, _)| own(name) && outcome(name) != Some(&Outcome::NoIdentity))
        .map(|(name, identity)| (name.clone(), settings(identity, outcome(name), &mut capacity)))
        .collect()
}

/// Returns the settings of an identity. `capacity` is the remaining size for causes of discovered identities.
fn settings(identity: &Identity, outcome: Option<&Outcome>, capacity: &mut usize) -> IdentitySettings {
    let fault = match outcome {
        Some(Outcome::Failed { cause, .. }) if identity.discovered => {
            Some(bounded(cause, capacity).to_owned())
        }
        Some(Outcome::Failed { cause, .. }) => Some(cause.clone()),
        _ => None,
    };
    IdentitySettings { aliases: identity.other_names(), fault }
}

fn bounded<'a>(cause: &'a str, capacity: &mut usize) -> &'a str {
    let left = capacity.checked_sub(cause.len());
    *capacity = left.unwrap_or_default();
    left.map_or(UNTOLD, |_| cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        DISCOVERED_BYTES, DISCOVERED_MAX, FileRef, FileSource, Location, Request, load_text,
    };
    use luassl_settings::{MessageError, encode_push};
    use std::path::Path;

    /// Returns settings with a declared identity and the maximum number of others, with the longest names
    /// within the limit and with long causes. The others are discovered or declared, depending on
    /// `discovered`.
    fn with_failures(discovered: bool) -> Settings {
        let text = "[identity.www]\nkey = '/www'\n";
        let mut config = load_text(Path::new("/x.toml"), text, &Request::default()).config.expect("good");
        let mut report = Report::default();
        let longest = DISCOVERED_BYTES / DISCOVERED_MAX - 256;
        let failed = |cause: String| Outcome::Failed { cause, keeps_previous: false };
        for number in 0..DISCOVERED_MAX {
            let path = format!("/{number:0longest$}");
            let location = Location::file(&path);
            let key = FileRef { source: FileSource::Path(path.into()), location };
            let identity = Identity { key, discovered, ..config.identities["www"].clone() };
            let name = format!("a{number:0254}");
            report.outcomes.insert(name.clone(), failed("c".repeat(6_000)));
            config.identities.insert(name, identity);
        }
        report.outcomes.insert("www".to_owned(), failed("the cause".to_owned()));
        let (name, front) = config.fronts.first_key_value().expect("a front");
        for_front(name, front, &config, &Trusts::new(), Some(&report))
    }

    #[test]
    fn failures_of_discovered_identities_leave_room_for_everything_else() {
        let settings = with_failures(true);
        assert_eq!(settings.identities.len(), DISCOVERED_MAX + 1);
        let size = rmp_serde::to_vec_named(&settings).expect("written").len();
        assert!(size < 24 << 20, "three parts of five are left for trusts and what is declared: {size}");
        assert!(encode_push(&settings, Vec::new()).is_ok());
        let told = |name: &str| settings.identities[name].fault.as_deref();
        assert_eq!(told("www"), Some("the cause"));
        assert_eq!(told(&format!("a{:0254}", 0)).map(str::len), Some(6_000), "there is capacity for some");
        assert_eq!(told(&format!("a{:0254}", DISCOVERED_MAX - 1)), Some(UNTOLD));
        // Positive control: the causes of so many declared identities do not fit.
        let all = encode_push(&with_failures(false), Vec::new());
        assert!(matches!(all, Err(MessageError::TooLarge { .. })), "{all:?}");
    }
}
