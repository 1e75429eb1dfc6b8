//! The deadline of a connection that drains.

use std::pin::Pin;
use tokio::time::{Instant, Sleep};

/// The deadline, which applies while a connection drains.
pub(super) struct Drain {
    /// The number of bytes that had been sent at the last progress, and the time of that progress.
    pub(super) progress: u64,
    pub(super) since: Instant,
    /// The timer, which belongs to the thread's runtime.
    pub(super) sleep: Option<Pin<Box<Sleep>>>,
}

impl Drain {
    pub(super) fn new(progress: u64) -> Self {
        Self { progress, since: Instant::now(), sleep: None }
    }

    /// Drops the timer, which belongs to this thread's runtime.
    pub(super) fn detach(&mut self) {
        self.sleep = None;
    }
}
