//! Limits on how much of each kind one owner, and all owners together, may hold.

use crate::authorization::counters::{Counters, Refusal};
use crate::authorization::owner::Owner;
use luassl_protocol::{ErrorCode, Failure, FailureReason};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The divisor for the reserve: this part of each limit for all owners is reserved for owners with a small share. So
/// one owner cannot use the whole limit, however large its own limit is.
const RESERVE: u64 = 8;

/// The divisor for a small share: at most this part of the limit for all owners, and never less than one.
const SMALL_SHARE: u64 = 32;

/// The limit on descriptors from clients that are neither taken by a request nor closed yet. If a program has more and
/// sends another one, its connection is reset. One receive may raise an owner far above its limit. For the limit for
/// all owners, an owner's count is taken into account only up to its own limit. Callers without a grant do not count,
/// because no descriptor is received from them.
const MAX_WAITING: Bound = Bound { owner: 64, all: Some(256) };

/// The limit on an owner's descriptors, and on its sockets that contain descriptors, that wait to be closed. Above it
/// the owner's new control connections are reset. It is larger than what one receive adds above [`MAX_WAITING`], so
/// descriptors that are being closed do not cost a connection. For the limit for all owners, the same descriptors count
/// as there.
pub(crate) const MAX_UNCLOSED: Bound = Bound { owner: 512, all: Some(4_096) };

/// The kind of a counted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Established connections.
    Connections,
    Contexts,
    Listeners,
    /// Handshakes in progress.
    Handshakes,
    /// Handshakes with their own threads.
    PskHandshakes,
    /// Finished connections that no subscriber has taken.
    Undelivered,
    ControlConnections,
    /// Control connections of callers without a grant.
    Ungranted,
    /// Bytes of frames that are incomplete, or whose requests are being answered.
    FrameBytes,
    /// Bytes of blobs.
    BlobBytes,
    /// Bytes of parsed certificates and CRLs.
    ParsedBytes,
    /// Descriptors that are neither taken by a request nor closed yet.
    Closing,
}

impl Kind {
    /// Returns the words for this kind, and the key of `[limits]` that limits it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Connections => ("connections", "connections"),
            Self::Contexts => ("contexts", "contexts"),
            Self::Listeners => ("listeners", "listeners"),
            Self::Handshakes => ("handshakes under way", "handshakes"),
            Self::PskHandshakes => ("handshakes that may ask for a psk", "psk_handshakes"),
            Self::Undelivered => ("connections that nobody has accepted", "undelivered"),
            Self::ControlConnections => ("control connections", "control_connections"),
            Self::Ungranted => ("control connections without a grant", "ungranted_connections"),
            Self::FrameBytes => ("bytes of requests on their way", "frame_bytes_in_flight"),
            Self::BlobBytes => ("bytes of certificates", "blob_bytes"),
            Self::ParsedBytes => ("bytes of parsed certificates", "parsed_bytes"),
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
    /// Checks that `amount` more is within the limits.
    fn check(&self, owner: &Owner, kind: Kind, amount: u64, bound: Bound) -> Result<(), Failure> {
        let all = self.all.get(&kind).copied().unwrap_or(0) + amount;
        let own = self.owners.get(&(owner.clone(), kind)).copied().unwrap_or(0) + amount;
        if own > u64::from(bound.owner) {
            return Err(limit(kind, bound.owner, "_per_owner"));
        }
        match bound.all {
            Some(most) if all > open_to(most.into(), own) => Err(limit(kind, most, "")),
            _ => Ok(()),
        }
    }

    /// Returns whether one more descriptor of `owner` may wait, under [`MAX_WAITING`] or [`MAX_UNCLOSED`].
    fn has_room_for_descriptors(&self, owner: &Owner, bound: Bound) -> bool {
        let most = u64::from(bound.owner);
        let own = self.owners.get(&(owner.clone(), Kind::Closing)).copied().unwrap_or(0) + 1;
        let ungranted = Owner::ungranted();
        let waiting =
            self.owners.iter().filter(|((owner, kind), _)| *kind == Kind::Closing && *owner != ungranted);
        let all = waiting.map(|(_, count)| (*count).min(most)).sum::<u64>() + 1;
        own <= most && bound.all.is_none_or(|most| all <= open_to(most.into(), own))
    }

    fn add(&mut self, owner: &Owner, kind: Kind, amount: u64) {
        *self.all.entry(kind).or_default() += amount;
        *self.owners.entry((owner.clone(), kind)).or_default() += amount;
    }

    fn give_back(&mut self, owner: &Owner, kind: Kind, amount: u64) {
        if let Some(all) = self.all.get_mut(&kind) {
            *all = all.saturating_sub(amount);
        }
        let key = (owner.clone(), kind);
        if let Some(own) = self.owners.get_mut(&key) {
            *own = own.saturating_sub(amount);
            if *own == 0 {
                self.owners.remove(&key);
            }
        }
    }
}

/// Returns how much of a limit for all owners is available to an owner that would hold `own` of it.
fn open_to(all: u64, own: u64) -> u64 {
    if own <= (all / SMALL_SHARE).max(1) { all } else { all - all / RESERVE }
}

/// The quota counters of a front.
#[derive(Clone, Default)]
pub(crate) struct Quotas {
    counts: Arc<Mutex<Counts>>,
    /// The same number as the total of [`Kind::Closing`], for threads that read it before each receive.
    waiting: Arc<AtomicU64>,
    /// The counters of refusals.
    counters: Arc<Counters>,
}

/// A held part of a quota. Dropping it returns the part.
pub(crate) struct QuotaGuard {
    quotas: Quotas,
    owner: Owner,
    kind: Kind,
    amount: u64,
}

/// The account on which descriptors are closed.
#[derive(Clone)]
pub(crate) struct Account {
    quotas: Quotas,
    owner: Owner,
}

impl Account {
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Counts descriptors that are neither taken nor closed. They have arrived already, so no limit refuses them.
    pub(crate) fn waiting(&self, count: usize) -> QuotaGuard {
        self.quotas.add(&self.owner, Kind::Closing, count as u64)
    }

    /// Returns whether another descriptor may be received.
    pub(crate) fn has_room_for_descriptors(&self) -> bool {
        self.has_room_within(MAX_WAITING)
    }

    /// Returns whether another control connection is accepted. A connection that is not accepted is counted as refused.
    pub(crate) fn may_connect(&self) -> bool {
        let may = self.has_room_within(MAX_UNCLOSED);
        if !may {
            self.quotas.counters.refused(&self.owner, Refusal::Limit(Kind::Closing.words().1));
        }
        may
    }

    fn has_room_within(&self, bound: Bound) -> bool {
        // If the total is below the limit of one owner, no owner exceeds its limit, and the lock is not needed.
        self.quotas.waiting() < bound.owner.into()
            || self.quotas.lock().has_room_for_descriptors(&self.owner, bound)
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the account of {:?}", self.owner)
    }
}

/// The limits for one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// The limit for one owner.
    pub(crate) owner: u32,
    /// The limit for all owners together; `None` if only single owners are limited.
    pub(crate) all: Option<u32>,
}

impl Quotas {
    /// Creates quotas that count their refusals in `counters`.
    pub(crate) fn counted_by(counters: Arc<Counters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// Returns how much of `kind` each owner holds.
    pub(crate) fn held(&self, kind: Kind) -> Vec<(Owner, u64)> {
        let counts = self.lock();
        let own = counts.owners.iter().filter(|((_, own), _)| *own == kind);
        own.map(|((owner, _), count)| (owner.clone(), *count)).collect()
    }

    /// Takes a part as [`Quotas::attempt`] does, and counts a refusal. Used for the requests of programs.
    ///
    /// # Errors
    /// The same as [`Quotas::attempt`].
    pub(crate) fn take(
        &self,
        owner: &Owner,
        kind: Kind,
        amount: u64,
        bound: Bound,
    ) -> Result<QuotaGuard, Failure> {
        self.attempt(owner, kind, amount, bound)
            .inspect_err(|_| self.counters.refused(owner, Refusal::Limit(kind.words().1)))
    }

    /// Takes `amount` of `kind` for `owner`.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Limit`] if `amount` exceeds a limit. In this case nothing is taken.
    pub(crate) fn attempt(
        &self,
        owner: &Owner,
        kind: Kind,
        amount: u64,
        bound: Bound,
    ) -> Result<QuotaGuard, Failure> {
        let mut counts = self.lock();
        counts.check(owner, kind, amount, bound)?;
        counts.add(owner, kind, amount);
        Ok(QuotaGuard { quotas: self.clone(), owner: owner.clone(), kind, amount })
    }

    /// Adds `amount` of `kind` for `owner`, without a check of the limits.
    fn add(&self, owner: &Owner, kind: Kind, amount: u64) -> QuotaGuard {
        self.lock().add(owner, kind, amount);
        if kind == Kind::Closing {
            self.waiting.fetch_add(amount, Ordering::Relaxed);
        }
        QuotaGuard { quotas: self.clone(), owner: owner.clone(), kind, amount }
    }

    /// Returns the total number of waiting descriptors.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Locks the counts. Each change under the lock only changes numbers.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }

    /// Returns the account on which descriptors from `owner` are closed.
    pub(crate) fn account(&self, owner: &Owner) -> Account {
        Account { quotas: self.clone(), owner: owner.clone() }
    }
}

fn limit(kind: Kind, bound: u32, suffix: &str) -> Failure {
    let (what, key) = kind.words();
    let message = format!("the limit of {bound} {what} is reached ([limits] {key}{suffix}, or the grant)");
    let failure = Failure::new(ErrorCode::Limit, message);
    if kind == Kind::Contexts { failure.because(FailureReason::Contexts) } else { failure }
}

impl QuotaGuard {
    /// Returns the account of the holder of this part.
    pub(crate) fn account(&self) -> Account {
        self.quotas.account(&self.owner)
    }

    /// Changes the amount of this part. An increase is checked against the limit.
    ///
    /// # Errors
    /// The same as [`Quotas::take`]. In this case the amount is unchanged.
    pub(crate) fn resize(&mut self, amount: u64, bound: Bound) -> Result<(), Failure> {
        let mut counts = self.quotas.lock();
        if amount > self.amount {
            let more = amount - self.amount;
            counts.check(&self.owner, self.kind, more, bound)?;
            counts.add(&self.owner, self.kind, more);
        } else {
            counts.give_back(&self.owner, self.kind, self.amount - amount);
        }
        drop(counts);
        self.amount = amount;
        Ok(())
    }
}

impl Drop for QuotaGuard {
    fn drop(&mut self) {
        self.quotas.lock().give_back(&self.owner, self.kind, self.amount);
        if self.kind == Kind::Closing {
            self.quotas.waiting.fetch_sub(self.amount, Ordering::Relaxed);
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

    #[test]
    fn finding_7_one_owner_leaves_the_reserve_to_those_with_little() {
        let quotas = Quotas::default();
        let bound = Bound { owner: 4_096, all: Some(4_096) };
        let greedy: Vec<_> =
            (0..4_096).map_while(|_| quotas.take(&owner(1), Kind::Contexts, 1, bound).ok()).collect();
        assert_eq!(greedy.len(), 4_096 - 512);
        let other: Vec<_> =
            (0..4_096).map_while(|_| quotas.take(&owner(2), Kind::Contexts, 1, bound).ok()).collect();
        assert_eq!(other.len(), 128, "a small share, and then it is as greedy as the first");
        assert!(quotas.take(&owner(3), Kind::Contexts, 1, bound).is_ok());
    }

    #[test]
    fn a_part_grows_within_its_bound_and_shrinks() {
        let quotas = Quotas::default();
        let bound = Bound { owner: 10, all: None };
        let mut slot = quotas.take(&owner(1), Kind::FrameBytes, 4, bound).unwrap();
        slot.resize(10, bound).unwrap();
        assert_eq!(slot.resize(11, bound).unwrap_err().code, ErrorCode::Limit);
        slot.resize(3, bound).unwrap();
        assert!(quotas.take(&owner(1), Kind::FrameBytes, 7, bound).is_ok());
    }

    #[test]
    fn finding_5_descriptors_of_one_owner_leave_room_for_anothers() {
        let quotas = Quotas::default();
        let (hostile, good) = (quotas.account(&owner(1)), quotas.account(&owner(2)));
        let waiting = hostile.waiting(63);
        assert!(hostile.has_room_for_descriptors());
        let more = hostile.waiting(1);
        assert!(!hostile.has_room_for_descriptors() && good.has_room_for_descriptors());
        drop((waiting, more));
        assert!(hostile.has_room_for_descriptors());
        assert_eq!(quotas.waiting(), 0);
    }

    #[test]
    fn an_owner_with_many_unclosed_items_takes_no_connection_from_others() {
        let quotas = Quotas::default();
        let (hostile, good) = (quotas.account(&owner(1)), quotas.account(&owner(2)));
        let ungranted = quotas.account(&Owner::ungranted());
        // However many descriptors there are, they count only up to the owner's limit.
        let held: Vec<_> = (0..100).map(|_| hostile.waiting(100)).collect();
        assert!(!hostile.may_connect() && good.may_connect() && ungranted.may_connect());
        let theirs = ungranted.waiting(100_000);
        assert!(!ungranted.may_connect() && good.may_connect());
        // The limit for all owners affects an owner with a large share before an owner with a small share.
        let most = u64::from(MAX_UNCLOSED.owner);
        let others: Vec<_> = (3..9).map(|uid| quotas.account(&owner(uid)).waiting(most as usize)).collect();
        let large = good.waiting(200);
        assert!(!good.may_connect() && quotas.account(&owner(100)).may_connect());
        // Positive control: closed descriptors no longer cause a refusal.
        drop((held, theirs, others, large));
        assert!(hostile.may_connect() && good.may_connect() && ungranted.may_connect());
        assert_eq!(quotas.waiting(), 0);
    }

    #[test]
    fn finding_5_what_owners_have_above_their_bounds_takes_no_room_from_others() {
        let quotas = Quotas::default();
        let good = quotas.account(&owner(100));
        let above = |uid| quotas.account(&owner(uid)).waiting(63 + 253);
        let held: Vec<_> = (1..=3).map(above).collect();
        let ungranted = quotas.account(&Owner::ungranted()).waiting(1_000);
        assert!(!quotas.account(&owner(1)).has_room_for_descriptors());
        assert!(good.has_room_for_descriptors());
        // Positive control: there is a limit for all owners.
        let last = above(4);
        assert!(!good.has_room_for_descriptors());
        drop((last, held));
        assert!(good.has_room_for_descriptors(), "whatever callers without a grant have");
        drop(ungranted);
        assert_eq!(quotas.waiting(), 0);
    }
}
