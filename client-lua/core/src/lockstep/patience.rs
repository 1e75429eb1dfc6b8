//! Whether a program looks for an answer for a moment before it sleeps: to be woken costs more than the answer to a small
//! question does. Looking in vain is work for nothing, so that the daemon has to have shown that it answers soon.

use std::time::{Duration, Instant};

/// How long a look lasts at most: about what it costs to be woken on another core of a virtual machine.
const LOOK: Duration = Duration::from_micros(50);

/// The most data in a question or an answer, in bytes, whose cost a wake-up weighs against: about a record of TLS.
const SMALL: usize = 17 * 1024;

/// What an answer that came within a look's time earns, and what a look in vain costs.
const EARNED: i8 = 1;
const SPENT: i8 = 4;
/// The most that a connection has, and owes.
const MOST: i8 = 16;

/// What is known of how soon answers come.
#[derive(Debug)]
pub(super) struct Patience {
    credit: i8,
    /// The last question or answer was more than [`SMALL`]: the next may be too, and the cores have other work then.
    bulk: bool,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { credit: EARNED, bulk: false }
    }

    /// A question of so many bytes has been asked now: until when to look for its answer.
    pub(super) fn look(&self, asked: Instant, question: usize) -> Option<Instant> {
        (self.credit > 0 && !self.bulk && question <= SMALL).then(|| asked + LOOK)
    }

    /// The answer came so long after the question; the larger of the two has so many bytes.
    pub(super) fn came(&mut self, later: Duration, size: usize) {
        self.bulk = size > SMALL;
        if self.bulk {
            return;
        }
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
    use super::{LOOK, MOST, Patience, SMALL};
    use std::time::{Duration, Instant};

    fn looks(patience: &Patience) -> bool {
        patience.look(Instant::now(), 9).is_some()
    }

    #[test]
    fn late_answers_end_the_looks_and_soon_ones_bring_them_back() {
        let mut patience = Patience::new();
        assert!(looks(&patience));
        patience.came(LOOK, 9);
        assert!(!looks(&patience));
        patience.came(LOOK, 9);
        patience.came(Duration::ZERO, 9);
        assert!(!looks(&patience), "one is not enough");
        for _ in 0..MOST {
            patience.came(Duration::ZERO, 9);
        }
        assert!(looks(&patience));
    }

    #[test]
    fn nothing_is_looked_for_beside_bulk() {
        let mut patience = Patience::new();
        assert!(patience.look(Instant::now(), SMALL + 1).is_none());
        patience.came(LOOK, SMALL + 1);
        assert!(!looks(&patience), "the next one may be large as well");
        patience.came(LOOK, SMALL);
        patience.came(Duration::ZERO, SMALL);
        assert!(!looks(&patience), "what was small and late counts");
    }

    #[test]
    fn a_long_past_of_either_kind_does_not_count_for_ever() {
        let mut patience = Patience::new();
        for _ in 0..1000 {
            patience.came(Duration::ZERO, 9);
        }
        for _ in 0..MOST {
            patience.came(LOOK, 9);
        }
        assert!(!looks(&patience));
    }
}
