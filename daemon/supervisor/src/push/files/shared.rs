//! One key in two identities: a caller with a right to one of them can use the key of the other. The
//! configuration must therefore declare it.

use crate::config::{Config, Finding, Identity};
use crate::push::report::Outcome;
use std::collections::BTreeMap;

/// Returns the identities that must not be served because another one has the same key, each with its
/// finding.
pub(crate) fn refused(config: &Config, outcomes: &BTreeMap<String, Outcome>) -> Vec<(String, Finding)> {
    let mut by_key: BTreeMap<[u8; 32], Vec<(&str, &Identity)>> = BTreeMap::new();
    for (name, outcome) in outcomes {
        if let (Outcome::Loaded(loaded), Some(identity)) = (outcome, config.identities.get(name)) {
            by_key.entry(loaded.key_id).or_default().push((name, identity));
        }
    }
    by_key.values().filter(|holders| holders.len() > 1).flat_map(|holders| refused_of(holders)).collect()
}

/// Returns the refused identities among those that have one key. Identities that are declared with
/// `shared_key` are served. If exactly one of them is declared, it is served too, because files in a
/// directory must not disable a declared identity.
fn refused_of(holders: &[(&str, &Identity)]) -> Vec<(String, Finding)> {
    let declared = holders.iter().filter(|(_, identity)| !identity.discovered).count();
    let served = |identity: &Identity| !identity.discovered && (identity.shared_key || declared == 1);
    let not_served = holders.iter().filter(|(_, identity)| !served(identity));
    not_served.map(|(name, identity)| ((*name).to_owned(), finding(name, identity, holders))).collect()
}

fn finding(name: &str, identity: &Identity, holders: &[(&str, &Identity)]) -> Finding {
    let other = holders.iter().map(|(other, _)| *other).find(|other| *other != name).unwrap_or_default();
    let cause = format!("identity `{name}` has the same key as identity `{other}`");
    let hint = if identity.discovered {
        "remove the file, make the name an alias of the other identity, or declare both with `shared_key = true`"
    } else {
        "set `shared_key = true` for each identity with that key, or make one an alias of the other"
    };
    Finding::error(identity.location.clone(), cause).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, load_text};
    use crate::push::report::LoadedIdentity;
    use std::path::Path;

    /// Returns the refused identities among those with these keys. `d1` and `d2` are discovered, `shared…`
    /// have `shared_key`.
    fn names(keys: &[(&str, u8)]) -> Vec<String> {
        let table = |(name, _): &(&str, u8)| {
            let shared = name.starts_with("shared");
            format!("[identity.{name}]\nkey = '/{name}'\nshared_key = {shared}\n")
        };
        let text: String = keys.iter().map(table).collect();
        let mut config = load_text(Path::new("/x.toml"), &text, &Request::default()).config.expect("good");
        for (name, identity) in &mut config.identities {
            identity.discovered = name.starts_with('d');
        }
        let loaded = |key: u8| {
            Outcome::Loaded(LoadedIdentity {
                generation: 1,
                changed: true,
                key_type: "P-256".to_owned(),
                not_before: 0,
                not_after: 0,
                names: Vec::new(),
                key_id: [key; 32],
            })
        };
        let outcomes = keys.iter().map(|(name, key)| ((*name).to_owned(), loaded(*key))).collect();
        refused(&config, &outcomes).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn finding_9_a_key_has_two_identities_only_where_it_is_declared() {
        assert_eq!(names(&[("a", 1), ("b", 2), ("d1", 3)]), [""; 0]);
        assert_eq!(names(&[("a", 1), ("d1", 1), ("d2", 1)]), ["d1", "d2"]);
        assert_eq!(names(&[("d1", 1), ("d2", 1)]), ["d1", "d2"]);
        assert_eq!(names(&[("a", 1), ("b", 1)]), ["a", "b"]);
        assert_eq!(names(&[("a", 1), ("shared1", 1)]), ["a"]);
        assert_eq!(names(&[("shared1", 1), ("shared2", 1)]), [""; 0]);
        assert_eq!(names(&[("shared1", 1), ("shared2", 1), ("d1", 1)]), ["d1"]);
    }
}
