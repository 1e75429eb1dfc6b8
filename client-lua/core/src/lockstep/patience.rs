//! Whether a program looks for an answer for a moment before it sleeps: the daemon has to have shown that it answers soon.

use luassl_protocol::{Credit, LOOK, LOOK_DATA};
use std::time::{Duration, Instant};

/// What is known of how soon answers come.
#[derive(Debug)]
pub(super) struct Patience {
    credit: Credit,
    /// The last question or answer was more than [`LOOK_DATA`]: the next may be too, and the cores have other work then.
    bulk: bool,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { credit: Credit::ONE, bulk: false }
    }

    /// A question of so many bytes has been asked now: until when to look for its answer.
    pub(super) fn look(&self, asked: Instant, question: usize) -> Option<Instant> {
        (self.credit.pays() && !self.bulk && question <= LOOK_DATA).then(|| asked + LOOK)
    }

    /// The answer came so long after the question; the larger of the two has so many bytes.
    pub(super) fn came(&mut self, later: Duration, size: usize) {
        self.bulk = size > LOOK_DATA;
        if self.bulk {
            return;
        }
        if later < LOOK {
            self.credit.earn();
        } else if self.credit.pays() {
            self.credit.spend();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOK, LOOK_DATA, Patience};
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
        for _ in 0..16 {
            patience.came(Duration::ZERO, 9);
        }
        assert!(looks(&patience));
    }

    #[test]
    fn nothing_is_looked_for_beside_bulk() {
        let mut patience = Patience::new();
        assert!(patience.look(Instant::now(), LOOK_DATA + 1).is_none());
        patience.came(LOOK, LOOK_DATA + 1);
        assert!(!looks(&patience), "the next one may be large as well");
        patience.came(LOOK, LOOK_DATA);
        patience.came(Duration::ZERO, LOOK_DATA);
        assert!(!looks(&patience), "what was small and late counts");
    }

    #[test]
    fn a_long_past_of_either_kind_does_not_count_for_ever() {
        let mut patience = Patience::new();
        for _ in 0..1000 {
            patience.came(Duration::ZERO, 9);
        }
        for _ in 0..16 {
            patience.came(LOOK, 9);
        }
        assert!(!looks(&patience));
    }
}
