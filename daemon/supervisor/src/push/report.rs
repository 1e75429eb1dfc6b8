//! The result of a push to the keeper, and the keeper's counters.

use crate::config::Finding;
use std::collections::BTreeMap;

/// The result of a push for every identity, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Every identity of the configuration.
    pub outcomes: BTreeMap<String, Outcome>,
    /// What an operator should know, in the order of the identities, declared ones first. Of the discovered ones, no more
    /// than a few are told one by one.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many are in service, as they are or as they were.
    pub fn serving(&self) -> usize {
        self.outcomes.values().filter(|outcome| outcome.is_served()).count()
    }

    /// Those of which a previous generation stays in service.
    pub fn former(&self) -> impl Iterator<Item = &str> {
        let stays = |outcome: &Outcome| matches!(outcome, Outcome::Failed { keeps_previous: true, .. });
        self.outcomes.iter().filter(move |(_, outcome)| stays(outcome)).map(|(name, _)| name.as_str())
    }

    /// How many identities there are, found files without a key not counted.
    pub fn declared(&self) -> usize {
        self.outcomes.values().filter(|outcome| **outcome != Outcome::NoIdentity).count()
    }
}

/// The result for one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in service.
    Loaded(LoadedIdentity),
    /// What was pushed is not.
    Failed {
        /// Why, for people.
        cause: String,
        /// Whether an older generation of it stays in service.
        keeps_previous: bool,
    },
    /// A file without a key in a directory of identities: not an identity.
    NoIdentity,
}

impl Outcome {
    fn is_served(&self) -> bool {
        matches!(self, Self::Loaded(_) | Self::Failed { keeps_previous: true, .. })
    }
}

/// What is known of an identity that the keeper serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedIdentity {
    /// Counts up with each change.
    pub generation: u64,
    /// Whether this push changed it.
    pub changed: bool,
    /// For people: `RSA 2048`, `P-256`, `Ed25519`.
    pub key_type: String,
    /// Start of the leaf's validity, seconds since 1970; 0 for a bare key.
    pub not_before: i64,
    /// End of the leaf's validity, seconds since 1970; 0 for a bare key.
    pub not_after: i64,
    /// Host names and addresses of the leaf.
    pub names: Vec<String>,
    /// SHA-256 of the public key.
    pub key_id: [u8; 32],
}

/// What a front has had with an identity since the keeper's start; the reasons are words of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The front's name.
    pub front: String,
    /// The identity's; `*` for names that the front does not reach.
    pub identity: String,
    /// Signatures.
    pub signed: u64,
    /// Pre-master secrets.
    pub decrypted: u64,
    /// Refusals by reason.
    pub refused: Vec<(&'static str, u64)>,
}
