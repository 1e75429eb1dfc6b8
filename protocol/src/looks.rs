//! Looks: an end of a lock-step connection may look for the other's words for a moment before it sleeps. To be woken costs
//! more than a small question or its answer does; to look in vain is work for nothing, so that looks have to be earned.

use std::time::Duration;

/// How long a look lasts at most: about what it costs to be woken on another core of a virtual machine.
pub const LOOK: Duration = Duration::from_micros(50);

/// The most data in a question or an answer, in bytes, whose cost a wake-up weighs against: about a record of TLS.
pub const LOOK_DATA: usize = 17 * 1024;

/// Whether looks pay, by what came of the last ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credit(i8);

impl Credit {
    /// What words that came soon earn, and what a look in vain costs: of the time, most is not wasted.
    const EARNED: i8 = 1;
    const SPENT: i8 = 4;
    /// The most that there is, and that is owed: no past counts for ever.
    const MOST: i8 = 16;

    /// Enough for the first look.
    pub const ONE: Self = Self(Self::EARNED);

    /// Whether to look.
    #[must_use]
    pub fn pays(self) -> bool {
        self.0 > 0
    }

    /// A look saw something, or would have.
    pub fn earn(&mut self) {
        self.change(Self::EARNED);
    }

    /// A look saw nothing.
    pub fn spend(&mut self) {
        self.change(-Self::SPENT);
    }

    fn change(&mut self, by: i8) {
        self.0 = (self.0 + by).clamp(-Self::MOST, Self::MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_in_vain_is_made_good_by_several_that_are_not() {
        let mut credit = Credit::ONE;
        assert!(credit.pays());
        credit.spend();
        for _ in 0..Credit::SPENT {
            assert!(!credit.pays());
            credit.earn();
        }
        assert!(credit.pays());
        assert!(!Credit::default().pays());
    }

    #[test]
    fn a_past_of_any_length_is_made_good() {
        let mut credit = Credit::default();
        (0..1000).for_each(|_| credit.spend());
        (0..=Credit::MOST).for_each(|_| credit.earn());
        assert!(credit.pays());
        (0..1000).for_each(|_| credit.earn());
        (0..Credit::MOST).for_each(|_| credit.spend());
        assert!(!credit.pays());
    }
}
