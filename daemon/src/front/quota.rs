//! Bounds: how much of everything one owner, and all together, may hold.

use super::counters::{Counters, Refusal};
use super::owner::Owner;
use luassl_protocol::{ErrorCode, Failure};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Established connections.
    Connections,
    /// Contexts.
    Contexts,
    /// Listeners.
    Listeners,
    /// Handshakes under way.
    Handshakes,
    /// Handshakes with a thread of their own.
    PskHandshakes,
    /// Finished connections that nobody has taken.
    Undelivered,
    /// Control connections.
    ControlConnections,
    /// Bytes of blobs.
    BlobBytes,
    /// Descriptors that nobody took and that are not closed yet.
    Closing,
}

impl Kind {
    /// In words, with the key of `[limits]` that bounds it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Connections => ("connections", "connections"),
            Self::Contexts => ("contexts", "contexts"),
            Self::Listeners => ("listeners", "listeners"),
            Self::Handshakes => ("handshakes under way", "handshakes"),
            Self::PskHandshakes => ("handshakes that may ask for a psk", "psk_handshakes"),
            Self::Undelivered => ("connections that nobody has accepted", "undelivered"),
            Self::ControlConnections => ("control connections", "control_connections"),
            Self::BlobBytes => ("bytes of certificates", "blob_bytes"),
            Self::Closing => ("descriptors that cannot be closed", "closing"),
        }
    }
}

#[derive(Default)]
struct Counts {
    all: HashMap<Kind, u64>,
    owners: HashMap<(Owner, Kind), u64>,
}

impl Counts {
    fn add(&mut self, owner: &Owner, kind: Kind, amount: u64) {
        *self.all.entry(kind).or_default() += amount;
        *self.owners.entry((owner.clone(), kind)).or_default() += amount;
    }
}

/// The counters of a front.
#[derive(Clone, Default)]
pub(super) struct Quotas {
    counts: Arc<Mutex<Counts>>,
    /// Where refusals are counted.
    counters: Arc<Counters>,
}

/// A held part of a quota; dropping it gives the part back.
pub(super) struct Slot {
    quotas: Quotas,
    owner: Owner,
    kind: Kind,
    amount: u64,
}

/// On whose account something is closed.
#[derive(Clone)]
pub(super) struct Account {
    quotas: Quotas,
    owner: Owner,
}

impl Account {
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The part of one descriptor that is being closed: it has come, so no bound refuses it.
    pub(super) fn closing(&self) -> Slot {
        self.quotas.add(&self.owner, Kind::Closing, 1)
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the account of {:?}", self.owner)
    }
}

/// The bounds for one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// For one owner.
    pub(super) owner: u32,
    /// For all together; `None` where only owners are bounded.
    pub(super) all: Option<u32>,
}

impl Quotas {
    /// Counts refusals there.
    pub(super) fn counted_by(counters: Arc<Counters>) -> Self {
        Self { counts: Arc::default(), counters }
    }

    /// What each owner holds of `kind`.
    pub(super) fn held(&self, kind: Kind) -> Vec<(Owner, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.owners.iter().filter(|((_, own), _)| *own == kind);
        own.map(|((owner, _), count)| (owner.clone(), *count)).collect()
    }

    /// As [`Quotas::attempt`], and a refusal is counted: for what a program asks for.
    ///
    /// # Errors
    /// As [`Quotas::attempt`].
    pub(super) fn take(&self, owner: &Owner, kind: Kind, amount: u64, bound: Bound) -> Result<Slot, Failure> {
        self.attempt(owner, kind, amount, bound)
            .inspect_err(|_| self.counters.refused(owner, Refusal::Limit(kind.words().1)))
    }

    /// Takes `amount` of `kind` for `owner`.
    ///
    /// # Errors
    /// [`ErrorCode::Limit`] where that would pass a bound; nothing is taken then.
    pub(super) fn attempt(
        &self,
        owner: &Owner,
        kind: Kind,
        amount: u64,
        bound: Bound,
    ) -> Result<Slot, Failure> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let all = counts.all.get(&kind).copied().unwrap_or(0) + amount;
        let own = counts.owners.get(&(owner.clone(), kind)).copied().unwrap_or(0) + amount;
        let (what, key) = kind.words();
        if own > u64::from(bound.owner) {
            return Err(limit(what, bound.owner, &format!("{key}_per_owner")));
        }
        if let Some(most) = bound.all
            && all > u64::from(most)
        {
            return Err(limit(what, most, key));
        }
        counts.add(owner, kind, amount);
        Ok(Slot { quotas: self.clone(), owner: owner.clone(), kind, amount })
    }

    /// Counts `amount` of `kind` for `owner`, whatever the bounds.
    fn add(&self, owner: &Owner, kind: Kind, amount: u64) -> Slot {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.add(owner, kind, amount);
        Slot { quotas: self.clone(), owner: owner.clone(), kind, amount }
    }

    /// Where what an owner sent is closed.
    pub(super) fn account(&self, owner: &Owner) -> Account {
        Account { quotas: self.clone(), owner: owner.clone() }
    }
}

fn limit(what: &str, bound: u32, key: &str) -> Failure {
    Failure::new(
        ErrorCode::Limit,
        format!("the limit of {bound} {what} is reached ([limits] {key}, or the grant)"),
    )
}

impl Slot {
    /// That of whoever holds this part.
    pub(super) fn account(&self) -> Account {
        self.quotas.account(&self.owner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.quotas.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = counts.all.get_mut(&self.kind) {
            *all = all.saturating_sub(self.amount);
        }
        let key = (self.owner.clone(), self.kind);
        if let Some(own) = counts.owners.get_mut(&key) {
            *own = own.saturating_sub(self.amount);
            if *own == 0 {
                counts.owners.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u32) -> Owner {
        Owner { socket: "control".into(), uid }
    }

    #[test]
    fn a_bound_for_an_owner_leaves_room_for_others() {
        let quotas = Quotas::default();
        let bound = Bound { owner: 2, all: Some(3) };
        let _first = quotas.take(&owner(1), Kind::Contexts, 1, bound).unwrap();
        let second = quotas.take(&owner(1), Kind::Contexts, 1, bound).unwrap();
        let refused = quotas.take(&owner(1), Kind::Contexts, 1, bound).err().unwrap();
        assert_eq!(refused.code, ErrorCode::Limit);
        assert!(refused.message.contains("contexts_per_owner"), "{}", refused.message);
        let _third = quotas.take(&owner(2), Kind::Contexts, 1, bound).unwrap();
        assert!(quotas.take(&owner(3), Kind::Contexts, 1, bound).is_err(), "the bound for all");
        drop(second);
        assert!(quotas.take(&owner(1), Kind::Contexts, 1, bound).is_ok(), "what is given back can be taken");
    }
}
