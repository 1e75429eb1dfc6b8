//! Decides whether a program spins before it sleeps while it waits for an answer. It spins only if recent
//! answers of the daemon arrived soon.

use luassl_protocol::{MAX_SPIN_DATA, SPIN_TIME, SpinBudget};
use std::time::{Duration, Instant};

/// Tracks how soon answers arrive.
#[derive(Debug)]
pub(super) struct SpinPolicy {
    budget: SpinBudget,
    /// Whether the last request or answer exceeded [`MAX_SPIN_DATA`]. The next one may exceed it too, and the
    /// cores then have other work.
    bulk: bool,
}

impl SpinPolicy {
    pub(super) fn new() -> Self {
        Self { budget: SpinBudget::ONE, bulk: false }
    }

    /// Returns until when to spin for the answer to a request of `question` bytes that was sent at `asked`.
    pub(super) fn spin_until(&self, asked: Instant, question: usize) -> Option<Instant> {
        (self.budget.allows_spin() && !self.bulk && question <= MAX_SPIN_DATA).then(|| asked + SPIN_TIME)
    }

    /// Records an answer: its response time, and the size of the larger of request and answer.
    pub(super) fn on_answer(&mut self, elapsed: Duration, size: usize) {
        self.bulk = size > MAX_SPIN_DATA;
        if self.bulk {
            return;
        }
        if elapsed < SPIN_TIME {
            self.budget.earn();
        } else if self.budget.allows_spin() {
            self.budget.spend();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::lockstep::spin::{MAX_SPIN_DATA, SPIN_TIME, SpinPolicy};
    use std::time::{Duration, Instant};

    fn spins(policy: &SpinPolicy) -> bool {
        policy.spin_until(Instant::now(), 9).is_some()
    }

    #[test]
    fn late_answers_stop_the_spinning_and_early_ones_resume_it() {
        let mut policy = SpinPolicy::new();
        assert!(spins(&policy));
        policy.on_answer(SPIN_TIME, 9);
        assert!(!spins(&policy));
        policy.on_answer(SPIN_TIME, 9);
        policy.on_answer(Duration::ZERO, 9);
        assert!(!spins(&policy), "one is not enough");
        for _ in 0..16 {
            policy.on_answer(Duration::ZERO, 9);
        }
        assert!(spins(&policy));
    }

    #[test]
    fn bulk_data_disables_spinning() {
        let mut policy = SpinPolicy::new();
        assert!(policy.spin_until(Instant::now(), MAX_SPIN_DATA + 1).is_none());
        policy.on_answer(SPIN_TIME, MAX_SPIN_DATA + 1);
        assert!(!spins(&policy), "the next one may be large as well");
        policy.on_answer(SPIN_TIME, MAX_SPIN_DATA);
        policy.on_answer(Duration::ZERO, MAX_SPIN_DATA);
        assert!(!spins(&policy), "a small late answer counts");
    }

    #[test]
    fn old_answers_are_forgotten() {
        let mut policy = SpinPolicy::new();
        for _ in 0..1000 {
            policy.on_answer(Duration::ZERO, 9);
        }
        for _ in 0..16 {
            policy.on_answer(SPIN_TIME, 9);
        }
        assert!(!spins(&policy));
    }
}
