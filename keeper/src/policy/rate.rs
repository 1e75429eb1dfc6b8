//! Limits requests per second with a token bucket. The caller supplies the time.

use std::time::Instant;

/// One token, in the unit that a bucket counts in. A rate of one token per second gives one unit each nanosecond.
const TOKEN: u64 = 1_000_000_000;

/// A token bucket. It holds as many tokens as one second brings, and starts full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    left: u64,
    since: Instant,
}

impl Bucket {
    /// Returns a full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: u64::MAX, since: now }
    }

    /// Takes a token, if one is left at `rate` tokens per second.
    pub(crate) fn take(&mut self, rate: u32, now: Instant) -> bool {
        let elapsed = u64::try_from(now.saturating_duration_since(self.since).as_nanos()).unwrap_or(u64::MAX);
        let gained = elapsed.saturating_mul(rate.into());
        self.left = self.left.saturating_add(gained).min(TOKEN.saturating_mul(rate.into()));
        self.since = now;
        match self.left.checked_sub(TOKEN) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn taken(bucket: &mut Bucket, rate: u32, now: Instant) -> usize {
        (0..10_000).filter(|_| bucket.take(rate, now)).count()
    }

    #[test]
    fn a_second_brings_as_many_as_the_rate_says() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(taken(&mut bucket, 100, start), 100, "it starts full");
        assert_eq!(taken(&mut bucket, 100, start + Duration::from_millis(500)), 50);
        assert_eq!(taken(&mut bucket, 100, start + Duration::from_secs(3600)), 100, "it holds no more");
    }

    #[test]
    fn small_steps_lose_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        taken(&mut bucket, 100, start);
        let count = (1..=1000).filter(|step| bucket.take(100, start + Duration::from_millis(*step))).count();
        assert_eq!(count, 100);
    }

    #[test]
    fn a_lower_rate_holds_at_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert!(bucket.take(1000, start));
        assert_eq!(taken(&mut bucket, 3, start), 3);
    }
}
