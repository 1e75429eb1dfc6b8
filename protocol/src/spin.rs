//! Spinning on a lock-step connection: either end may poll for the next message for a short time before it
//! sleeps. Waking a sleeping process costs more than a small request or answer. Fruitless spinning wastes CPU
//! time, so a budget limits it.

use std::time::Duration;

/// The maximum time of one spin: roughly the cost of a wake-up on another core of a virtual machine.
pub const SPIN_TIME: Duration = Duration::from_micros(50);

/// The maximum size of a request or answer, in bytes, for which the cost of a wake-up matters: about one TLS
/// record.
pub const MAX_SPIN_DATA: usize = 17 * 1024;

/// Decides from recent outcomes whether spinning is worthwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpinBudget(i8);

impl SpinBudget {
    /// The amount that a prompt message adds to the budget. A fruitless spin costs more: at least four of
    /// five spins must succeed.
    const EARNED: i8 = 1;
    const SPENT: i8 = 4;
    /// The limit of the budget in both directions, so that old outcomes are forgotten.
    const MAX: i8 = 16;

    /// A budget for one spin.
    pub const ONE: Self = Self(Self::EARNED);

    /// Returns whether to spin.
    #[must_use]
    pub fn allows_spin(self) -> bool {
        self.0 > 0
    }

    /// Records that a spin received a message, or would have.
    pub fn earn(&mut self) {
        self.change(Self::EARNED);
    }

    /// Records that a spin ended without a message.
    pub fn spend(&mut self) {
        self.change(-Self::SPENT);
    }

    fn change(&mut self, by: i8) {
        self.0 = (self.0 + by).clamp(-Self::MAX, Self::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_successful_spins_make_up_for_one_in_vain() {
        let mut budget = SpinBudget::ONE;
        assert!(budget.allows_spin());
        budget.spend();
        for _ in 0..SpinBudget::SPENT {
            assert!(!budget.allows_spin());
            budget.earn();
        }
        assert!(budget.allows_spin());
        assert!(!SpinBudget::default().allows_spin());
    }

    #[test]
    fn old_outcomes_are_forgotten() {
        let mut budget = SpinBudget::default();
        (0..1000).for_each(|_| budget.spend());
        (0..=SpinBudget::MAX).for_each(|_| budget.earn());
        assert!(budget.allows_spin());
        (0..1000).for_each(|_| budget.earn());
        (0..SpinBudget::MAX).for_each(|_| budget.spend());
        assert!(!budget.allows_spin());
    }
}
