//! The usage of the keeper by a front: a rate limit and counters for each of its identities, and for the front as a
//! whole.

use crate::limits::UNREACHED;
use crate::policy::rate::Bucket;
use luassl_keeper_ipc::admin::{Count, Rates};
use luassl_keeper_ipc::front::Refusal;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The kind of result that the keeper made for a front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Signature,
    Secret,
}

impl Made {
    /// Returns the name of the operation in the audit log.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::Signature => "sign",
            Self::Secret => "decrypt",
        }
    }
}

/// The usage of one front.
pub(crate) struct Usage {
    state: Mutex<State>,
}

struct State {
    all: Bucket,
    /// The accounts by identity. All identities that the front does not reach share one account, because the front can
    /// invent names.
    accounts: BTreeMap<String, Account>,
}

struct Account {
    bucket: Bucket,
    tally: Tally,
    /// Whether a counter changed since the last call of [`Usage::changed`].
    changed: bool,
}

/// The counters of one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) signed: u64,
    pub(crate) decrypted: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Tally {
    /// Returns the refusals by reason. Reasons that never occurred are left out.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.refused).filter(|(_, count)| *count > 0)
    }

    /// Returns the counters as a message for the supervisor.
    pub(crate) fn message<'a>(&self, front: &'a str, identity: &'a str) -> Count<'a> {
        let refused = self.refused().collect();
        Count { front, identity, signed: self.signed, decrypted: self.decrypted, refused }
    }
}

impl Account {
    fn new(now: Instant) -> Self {
        Self { bucket: Bucket::new(now), tally: Tally::default(), changed: false }
    }
}

impl Usage {
    /// Returns a usage with all counters at 0 and every bucket full.
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: Mutex::new(State { all: Bucket::new(now), accounts: BTreeMap::new() }) }
    }

    /// Locks the state. Only counters change under the lock, so they stay consistent if a thread panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the rates admit one more request about `identity`. `None` stands for an identity that the front
    /// does not reach.
    pub(crate) fn admit(&self, identity: Option<&str>, rates: Rates, now: Instant) -> bool {
        let mut state = self.lock();
        let whole = state.all.take(rates.front, now);
        whole && state.account(identity, now).bucket.take(rates.identity, now)
    }

    /// Returns whether the rate admits one more request that concerns no identity: a connection, or a subscription.
    pub(crate) fn admit_front(&self, rates: Rates, now: Instant) -> bool {
        self.lock().all.take(rates.front, now)
    }

    /// Counts a signature or a secret.
    pub(crate) fn made(&self, identity: &str, made: Made, now: Instant) {
        let mut state = self.lock();
        let account = state.account(Some(identity), now);
        match made {
            Made::Signature => account.tally.signed += 1,
            Made::Secret => account.tally.decrypted += 1,
        }
        account.changed = true;
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, identity: Option<&str>, refusal: Refusal, now: Instant) {
        let mut state = self.lock();
        let account = state.account(identity, now);
        let index = Refusal::ALL.iter().position(|known| *known == refusal);
        if let Some(count) = index.and_then(|index| account.tally.refused.get_mut(index)) {
            *count += 1;
        }
        account.changed = true;
    }

    /// Returns all accounts, by identity.
    pub(crate) fn tallies(&self) -> Vec<(String, Tally)> {
        let state = self.lock();
        state.accounts.iter().map(|(name, account)| (name.clone(), account.tally)).collect()
    }

    /// Returns the accounts that changed since the last call.
    pub(crate) fn changed(&self) -> Vec<(String, Tally)> {
        let mut state = self.lock();
        let accounts = state.accounts.iter_mut();
        let changed = |(name, account): (&String, &mut Account)| {
            std::mem::take(&mut account.changed).then(|| (name.clone(), account.tally))
        };
        accounts.filter_map(changed).collect()
    }
}

impl State {
    fn account(&mut self, identity: Option<&str>, now: Instant) -> &mut Account {
        let name = identity.unwrap_or(UNREACHED).to_owned();
        self.accounts.entry(name).or_insert_with(|| Account::new(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { identity: 3, front: 5 };

    #[test]
    fn each_identity_has_a_rate_and_so_has_the_front() {
        let now = Instant::now();
        let usage = Usage::new(now);
        let taken = |identity| (0..10).filter(|_| usage.admit(identity, RATES, now)).count();
        assert_eq!(
            (taken(Some("a")), taken(Some("b"))),
            (3, 0),
            "the front's was used up by the refused ones"
        );
        let usage = Usage::new(now);
        let taken = |identity, count| (0..count).filter(|_| usage.admit(identity, RATES, now)).count();
        assert_eq!((taken(Some("a"), 3), taken(Some("b"), 3)), (3, 2));
    }

    #[test]
    fn names_that_a_front_makes_up_share_one_account() {
        let now = Instant::now();
        let usage = Usage::new(now);
        usage.refused(None, Refusal::UnknownIdentity, now);
        usage.refused(None, Refusal::Rate, now);
        usage.made("a", Made::Secret, now);
        let [(unreached, tally), (name, other)] = &usage.changed()[..] else { panic!("two accounts") };
        assert_eq!((unreached.as_str(), name.as_str(), other.decrypted), (UNREACHED, "a", 1));
        let refused: Vec<_> = tally.refused().collect();
        assert_eq!(refused, [(Refusal::UnknownIdentity, 1), (Refusal::Rate, 1)]);
        assert!(usage.changed().is_empty());
        assert_eq!(usage.tallies().len(), 2);
    }

    #[test]
    fn finding_15_what_is_about_no_identity_counts_for_the_front() {
        let now = Instant::now();
        let usage = Usage::new(now);
        assert!((0..5).all(|_| usage.admit_front(RATES, now)));
        assert!(!usage.admit_front(RATES, now) && !usage.admit(Some("a"), RATES, now));
    }
}
