//! Whether a thread looks for a connection's next question for a moment before it sleeps. A program that has read often
//! writes at once; each connection has to have shown that its questions come soon.

use luassl_protocol::{SPIN_TIME, SpinBudget};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// A question that is received so soon after the last answer would have been seen by a look: a wake-up on either side
/// is part of the time.
const SOON: Duration = Duration::from_micros(100);

/// What was answered last; each has habits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Read,
    Write,
    Other,
    /// More than [`luassl_protocol::MAX_SPIN_DATA`]: nothing is looked for, since the cores have other work then.
    Bulk,
}

/// What is known of a connection's habits.
#[derive(Debug)]
pub(super) struct SpinPolicy {
    /// After each but [`After::Bulk`].
    credit: [SpinBudget; 3],
    after: After,
}

impl SpinPolicy {
    /// A read is followed by a write, until shown otherwise.
    pub(super) fn new() -> Self {
        Self { credit: [SpinBudget::ONE, SpinBudget::default(), SpinBudget::default()], after: After::Other }
    }

    /// A question of this kind is about to be answered.
    pub(super) fn answers(&mut self, after: After) {
        self.after = after;
    }

    /// How long to look for the next question.
    pub(super) fn look(&self) -> Option<Duration> {
        self.credit.get(self.after as usize).is_some_and(|credit| credit.allows_spin()).then_some(SPIN_TIME)
    }

    /// The next question came so long after the answer.
    pub(super) fn came(&mut self, later: Duration) {
        if later < SOON {
            self.change(SpinBudget::earn);
        }
    }

    /// A look saw nothing.
    pub(super) fn was_in_vain(&mut self) {
        self.change(SpinBudget::spend);
    }

    fn change(&mut self, change: fn(&mut SpinBudget)) {
        if let Some(credit) = self.credit.get_mut(self.after as usize) {
            change(credit);
        }
    }
}

thread_local! {
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// This thread's look: one connection's at a time, since whatever comes for another is seen along with it.
pub(super) struct Look {
    until: Instant,
}

impl Look {
    /// None where this thread is looking already.
    pub(super) fn begin(now: Instant, length: Duration) -> Option<Self> {
        (!LOOKING.replace(true)).then(|| Self { until: now + length })
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        LOOKING.set(false);
    }
}

#[cfg(test)]
mod tests {
    use crate::lockstep::spin::{After, Look, SOON, SPIN_TIME, SpinPolicy};
    use std::time::{Duration, Instant};

    #[test]
    fn a_write_is_looked_for_after_a_read_and_nothing_after_a_write() {
        let mut spin = SpinPolicy::new();
        assert_eq!(spin.look(), None);
        spin.answers(After::Read);
        assert_eq!(spin.look(), Some(SPIN_TIME));
        spin.answers(After::Write);
        assert_eq!(spin.look(), None);
    }

    #[test]
    fn a_look_in_vain_is_the_last_until_questions_have_come_soon_again() {
        let mut spin = SpinPolicy::new();
        spin.answers(After::Read);
        spin.was_in_vain();
        spin.came(SOON);
        let mut soon = 0;
        while spin.look().is_none() {
            spin.came(Duration::ZERO);
            soon += 1;
        }
        assert_eq!(soon, 4);
        spin.answers(After::Write);
        assert_eq!(spin.look(), None, "each kind has its own");
    }

    #[test]
    fn nothing_is_looked_for_after_bulk() {
        let mut spin = SpinPolicy::new();
        spin.answers(After::Bulk);
        spin.came(Duration::ZERO);
        assert_eq!(spin.look(), None);
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
        assert!(spin.look().is_some());
    }

    #[test]
    fn one_connection_of_a_thread_looks() {
        let look = Look::begin(Instant::now(), Duration::ZERO).unwrap();
        assert!(look.is_over());
        assert!(Look::begin(Instant::now(), SPIN_TIME).is_none());
        drop(look);
        assert!(Look::begin(Instant::now(), SPIN_TIME).is_some());
    }
}
