//! When to restart a child that exited. Takes time as an argument.

use std::time::Duration;

/// The second start after a failure waits this long; each further one twice as long as the one before.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// No start waits longer.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// A child that ran this long is considered healthy: its next start is immediate.
const STEADY: Duration = Duration::from_secs(10);

/// How often a child has exited recently.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    failures: u32,
}

impl Restarts {
    /// The child ended after it `ran` this long: how long its next start waits.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures = self.failures.saturating_add(1);
        match failures {
            0 => Duration::ZERO,
            more => FIRST_DELAY.saturating_mul(2_u32.saturating_pow(more - 1)).min(MAX_DELAY),
        }
    }

    /// How many ends there were since it last ran well.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_slower_then_at_once_again() {
        let mut restarts = Restarts::default();
        let quick = Duration::from_millis(5);
        let delays: Vec<u128> = (0..5).map(|_| restarts.after(quick).as_millis()).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800]);
        for _ in 0..100 {
            assert!(restarts.after(quick) <= MAX_DELAY);
        }
        assert_eq!(restarts.after(quick), MAX_DELAY);
        assert_eq!(restarts.after(STEADY), Duration::ZERO);
        assert_eq!(restarts.after(quick), FIRST_DELAY);
    }
}
