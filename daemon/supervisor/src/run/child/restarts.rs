//! The delays between restarts of a child that exits. Times are passed as arguments.

use std::time::Duration;

/// The delay of the second start after a failure. Each further delay is twice the one before.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The maximum delay of a start.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// A child that ran for this time is considered healthy: its next start is immediate.
const STEADY: Duration = Duration::from_secs(10);

/// The number of recent exits of a child.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    failures: u32,
}

impl Restarts {
    /// Returns the delay of the next start after the child `ran` for the given time.
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

    /// Returns the number of exits since the child was last healthy.
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
