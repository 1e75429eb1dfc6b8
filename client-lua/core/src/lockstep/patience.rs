//! Whether a program looks for an answer for a moment before it sleeps: to be woken costs more than the answer to a small
//! question does. Looking in vain is work for nothing, so that the daemon has to have shown that it answers soon.

use std::time::{Duration, Instant};

/// How long a look lasts at most: about what it costs to be woken on another core of a virtual machine.
const LOOK: Duration = Duration::from_micros(50);

/// What an answer that came within a look's time earns, and what a look in vain costs.
const EARNED: i8 = 1;
const SPENT: i8 = 4;
/// The most that a connection has, and owes.
const MOST: i8 = 16;

/// What is known of how soon answers come.
#[derive(Debug)]
pub(super) struct Patience {
    credit: i8,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { credit: EARNED }
    }

    /// A question has been asked now: until when to look for its answer.
    pub(super) fn look(&self, asked: Instant) -> Option<Instant> {
        (self.credit > 0).then(|| asked + LOOK)
    }

    /// The answer came so long after the question.
    pub(super) fn came(&mut self, later: Duration) {
        let change = match (later < LOOK, self.credit > 0) {
            (true, _) => EARNED,
            (false, true) => -SPENT,
            (false, false) => 0,
        };
        self.credit = (self.credit + change).clamp(-MOST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOK, MOST, Patience};
    use std::time::{Duration, Instant};

    fn looks(patience: &Patience) -> bool {
        patience.look(Instant::now()).is_some()
    }

    #[test]
    fn late_answers_end_the_looks_and_soon_ones_bring_them_back() {
        let mut patience = Patience::new();
        assert!(looks(&patience));
        patience.came(LOOK);
        assert!(!looks(&patience));
        patience.came(LOOK);
        patience.came(Duration::ZERO);
        assert!(!looks(&patience), "one is not enough");
        for _ in 0..MOST {
            patience.came(Duration::ZERO);
        }
        assert!(looks(&patience));
    }

    #[test]
    fn a_long_past_of_either_kind_does_not_count_for_ever() {
        let mut patience = Patience::new();
        for _ in 0..1000 {
            patience.came(Duration::ZERO);
        }
        for _ in 0..MOST {
            patience.came(LOOK);
        }
        assert!(!looks(&patience));
    }
}
