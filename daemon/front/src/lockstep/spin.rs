//! Decides whether a thread spins briefly for a connection's next request before it sleeps. Many programs write as soon
//! as they have read. A connection's budget increases with each request that arrives soon after an answer, and
//! decreases with each spin wait that ends without a request.

use luassl_protocol::{SPIN_TIME, SpinBudget};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// A request that arrives within this time after the last answer would have ended a spin wait. The time includes a
/// wake-up on either side.
const SOON: Duration = Duration::from_micros(100);

/// The kind of the last answer. Each kind has a separate budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Read,
    Write,
    Other,
    /// More than [`luassl_protocol::MAX_SPIN_DATA`]: no spin wait follows, because the cores have other work then.
    Bulk,
}

/// The budgets of one connection.
#[derive(Debug)]
pub(super) struct SpinPolicy {
    /// One budget for each kind except [`After::Bulk`].
    budgets: [SpinBudget; 3],
    after: After,
}

impl SpinPolicy {
    /// Creates a policy which assumes that a write follows a read, until requests show otherwise.
    pub(super) fn new() -> Self {
        Self { budgets: [SpinBudget::ONE, SpinBudget::default(), SpinBudget::default()], after: After::Other }
    }

    /// Records that a request of this kind is about to be answered.
    pub(super) fn answers(&mut self, after: After) {
        self.after = after;
    }

    /// Returns how long to spin for the next request; `None` to sleep at once.
    pub(super) fn spin_time(&self) -> Option<Duration> {
        self.budgets.get(self.after as usize).is_some_and(|budget| budget.allows_spin()).then_some(SPIN_TIME)
    }

    /// Records that the next request arrived this long after the answer.
    pub(super) fn came(&mut self, later: Duration) {
        if later < SOON {
            self.change(SpinBudget::earn);
        }
    }

    /// Records that a spin wait ended without a request.
    pub(super) fn was_in_vain(&mut self) {
        self.change(SpinBudget::spend);
    }

    fn change(&mut self, change: fn(&mut SpinBudget)) {
        if let Some(budget) = self.budgets.get_mut(self.after as usize) {
            change(budget);
        }
    }
}

thread_local! {
    static SPINNING: Cell<bool> = const { Cell::new(false) };
}

/// The spin wait of this thread. Only one exists at a time, and an event for another connection of the thread also ends
/// it.
pub(super) struct SpinWait {
    until: Instant,
}

impl SpinWait {
    /// Begins a spin wait. Returns `None` if this thread already spins.
    pub(super) fn begin(now: Instant, length: Duration) -> Option<Self> {
        (!SPINNING.replace(true)).then(|| Self { until: now + length })
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Drop for SpinWait {
    fn drop(&mut self) {
        SPINNING.set(false);
    }
}

#[cfg(test)]
mod tests {
    use crate::lockstep::spin::{After, SOON, SPIN_TIME, SpinPolicy, SpinWait};
    use std::time::{Duration, Instant};

    #[test]
    fn a_spin_wait_follows_a_read_and_not_a_write() {
        let mut spin = SpinPolicy::new();
        assert_eq!(spin.spin_time(), None);
        spin.answers(After::Read);
        assert_eq!(spin.spin_time(), Some(SPIN_TIME));
        spin.answers(After::Write);
        assert_eq!(spin.spin_time(), None);
    }

    #[test]
    fn a_spin_wait_in_vain_is_the_last_until_requests_arrive_soon_again() {
        let mut spin = SpinPolicy::new();
        spin.answers(After::Read);
        spin.was_in_vain();
        spin.came(SOON);
        let mut soon = 0;
        while spin.spin_time().is_none() {
            spin.came(Duration::ZERO);
            soon += 1;
        }
        assert_eq!(soon, 4);
        spin.answers(After::Write);
        assert_eq!(spin.spin_time(), None, "each kind has its own");
    }

    #[test]
    fn no_spin_wait_follows_bulk_data() {
        let mut spin = SpinPolicy::new();
        spin.answers(After::Bulk);
        spin.came(Duration::ZERO);
        assert_eq!(spin.spin_time(), None);
    }

    #[test]
    fn a_past_of_any_length_is_made_good() {
        let mut spin = SpinPolicy::new();
        for _ in 0..1000 {
            spin.was_in_vain();
        }
        for _ in 0..=16 {
            spin.came(Duration::ZERO);
        }
        assert!(spin.spin_time().is_some());
    }

    #[test]
    fn one_connection_of_a_thread_spins_at_a_time() {
        let wait = SpinWait::begin(Instant::now(), Duration::ZERO).unwrap();
        assert!(wait.is_over());
        assert!(SpinWait::begin(Instant::now(), SPIN_TIME).is_none());
        drop(wait);
        assert!(SpinWait::begin(Instant::now(), SPIN_TIME).is_some());
    }
}
