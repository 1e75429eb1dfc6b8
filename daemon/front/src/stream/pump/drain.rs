//! The deadline of a connection that drains.

use std::pin::Pin;
use tokio::time::{Instant, Sleep};

/// Runs while a connection drains.
pub(super) struct Drain {
    /// Bytes that had been sent at the last progress, and when that was.
    pub(super) progress: u64,
    pub(super) since: Instant,
    /// The timer, which belongs to the thread's runtime.
    pub(super) sleep: Option<Pin<Box<Sleep>>>,
}

impl Drain {
    pub(super) fn new(progress: u64) -> Self {
        Self { progress, since: Instant::now(), sleep: None }
    }

    /// Takes the timer from this thread's runtime.
    pub(super) fn detach(&mut self) {
        self.sleep = None;
    }
}
