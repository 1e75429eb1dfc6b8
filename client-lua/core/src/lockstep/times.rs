//! Timeouts as in LuaSocket: one for each wait, and one for the whole call.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// Timeouts in seconds. A negative value means no timeout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// For each wait.
    pub block: f64,
    /// For a whole call.
    pub total: f64,
}

impl Default for Times {
    fn default() -> Self {
        Self { block: -1.0, total: -1.0 }
    }
}

/// The result of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Ready,
    Timeout,
    /// The descriptor is no longer valid.
    Broken,
}

/// A call in progress.
pub(super) struct Call {
    times: Times,
    started: Option<Instant>,
}

impl Times {
    /// Begins a call.
    pub(super) fn call(self) -> Call {
        let timed = self.block > 0.0 || self.total >= 0.0;
        Call { times: self, started: timed.then(Instant::now) }
    }
}

impl Call {
    /// Returns the remaining time to wait; `None` means no limit.
    fn left(&self) -> Option<f64> {
        let elapsed = self.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let rest = |limit: f64| (limit >= 0.0).then(|| (limit - elapsed).max(0.0));
        match (rest(self.times.block), rest(self.times.total)) {
            (Some(block), Some(total)) => Some(block.min(total)),
            (block, total) => block.or(total),
        }
    }

    /// Waits until the descriptor is ready.
    pub(super) fn wait(&self, fd: BorrowedFd<'_>, flags: PollFlags) -> Waited {
        loop {
            let left = self.left().map(timespec);
            let mut polled = [PollFd::from_borrowed_fd(fd, flags)];
            match poll(&mut polled, left.as_ref()) {
                Ok(0) => return Waited::Timeout,
                Ok(_) if polled[0].revents().contains(PollFlags::NVAL) => return Waited::Broken,
                Ok(_) => return Waited::Ready,
                Err(Errno::INTR) => {}
                Err(_) => return Waited::Broken,
            }
        }
    }
}

fn timespec(seconds: f64) -> Timespec {
    let max = Timespec { tv_sec: i32::MAX.into(), tv_nsec: 0 };
    let duration = Duration::try_from_secs_f64(seconds).ok();
    duration.and_then(|duration| Timespec::try_from(duration).ok()).unwrap_or(max)
}

#[cfg(test)]
mod tests {
    use crate::lockstep::times::Times;

    #[test]
    fn the_shorter_of_two_timeouts_counts_and_none_is_for_ever() {
        let left = |block, total| Times { block, total }.call().left();
        assert_eq!(left(-1.0, -1.0), None);
        assert_eq!(left(0.0, -1.0), Some(0.0));
        assert_eq!(left(-1.0, 0.0), Some(0.0));
        assert!(left(1000.0, 2000.0).unwrap() <= 1000.0);
        assert!(left(3000.0, 2000.0).unwrap() <= 2000.0);
    }
}
