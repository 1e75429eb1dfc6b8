//! The result of a push to the keeper, and the keeper's counters.

use crate::config::Finding;
use std::collections::BTreeMap;

/// The result of a push for every identity, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Every identity of the configuration.
    pub outcomes: BTreeMap<String, Outcome>,
    /// All findings, in the order of the identities, declared ones first. At most a few discovered identities
    /// are reported individually.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns the number of identities in service, in their new or their previous version.
    pub fn serving(&self) -> usize {
        self.outcomes.values().filter(|outcome| outcome.is_served()).count()
    }

    /// Returns the identities whose previous generation stays in service.
    pub fn former(&self) -> impl Iterator<Item = &str> {
        let stays = |outcome: &Outcome| matches!(outcome, Outcome::Failed { keeps_previous: true, .. });
        self.outcomes.iter().filter(move |(_, outcome)| stays(outcome)).map(|(name, _)| name.as_str())
    }

    /// Returns the number of identities. Discovered files without a key are not counted.
    pub fn declared(&self) -> usize {
        self.outcomes.values().filter(|outcome| **outcome != Outcome::NoIdentity).count()
    }
}

/// The result for one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The identity is in service.
    Loaded(LoadedIdentity),
    /// The pushed version is not in service.
    Failed {
        /// The cause, for the operator.
        cause: String,
        /// Whether an older generation of the identity stays in service.
        keeps_previous: bool,
    },
    /// A file without a key in a directory of identities. It is not an identity.
    NoIdentity,
}

impl Outcome {
    fn is_served(&self) -> bool {
        matches!(self, Self::Loaded(_) | Self::Failed { keeps_previous: true, .. })
    }
}

/// Facts about an identity that the keeper serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedIdentity {
    /// The generation. It increases with each change.
    pub generation: u64,
    /// Whether this push changed it.
    pub changed: bool,
    /// The type of the key in readable form: `RSA 2048`, `P-256`, `Ed25519`.
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

/// The keeper's counters for a front and an identity since the keeper's start. The reasons are words of the
/// audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The front's name.
    pub front: String,
    /// The identity's name; `*` for names that the front does not reach.
    pub identity: String,
    /// Signatures.
    pub signed: u64,
    /// Pre-master secrets.
    pub decrypted: u64,
    /// Refusals by reason.
    pub refused: Vec<(&'static str, u64)>,
}
