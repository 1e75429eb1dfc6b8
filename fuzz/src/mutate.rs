//! Mutations of a corpus, without knowledge of the code that they meet: what stands in for libFuzzer where there is none.

/// No mutation is longer, in bytes: the bound of most messages.
const LONGEST: usize = 64 << 10;

/// A sequence of inputs that depends on its seed alone, so that each can be made again.
pub struct Mutations<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Mutations of `corpus`, which may be empty.
    #[must_use]
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        // The generator never leaves zero.
        Self { corpus, state: seed.wrapping_mul(2).wrapping_add(1) }
    }

    /// xorshift64*: good enough to choose places.
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        match u64::try_from(bound) {
            Ok(bound) if bound > 0 => usize::try_from(self.random() % bound).unwrap_or_default(),
            _ => 0,
        }
    }

    fn sample(&mut self) -> &'a [u8] {
        let place = self.below(self.corpus.len());
        self.corpus.get(place).map_or(&[], Vec::as_slice)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        const TELLING: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, 0xc1, 0xdf, 0x16, b'\n', b'-', b'=', b'['];
        let at = self.below(bytes.len() + 1);
        let (choice, random) = (self.random() % 9, self.random().to_le_bytes());
        let span = self.below(16.min(bytes.len().saturating_sub(at)) + 1);
        match choice {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random[0]),
            2 => drop(bytes.drain(at..at + span)),
            3 => {
                let copy = bytes[at..at + span].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            4 => {
                let other = self.sample();
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            choice => {
                let Some(byte) = bytes.get_mut(at) else { return };
                *byte = match choice {
                    5 => *byte ^ (1 << (random[0] & 7)),
                    6 => TELLING[usize::from(random[0]) % TELLING.len()],
                    7 => byte.wrapping_add(random[0] % 5).wrapping_sub(2),
                    _ => random[0],
                };
            }
        }
        bytes.truncate(LONGEST);
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.sample().to_vec();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_another_others() {
        let corpus = [b"some text".to_vec(), vec![0; 300]];
        let some = |seed| Mutations::new(&corpus, seed).take(200).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert!(some(3).iter().filter(|input| !corpus.contains(input)).count() > 150);
        assert_eq!(Mutations::new(&[], 1).take(100).count(), 100);
    }
}
