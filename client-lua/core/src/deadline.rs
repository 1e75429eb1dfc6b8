//! The timeouts of operations, and waiting on a descriptor until a deadline.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// The timeout that a program has set with `settimeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// No timeout.
    Never,
    /// At most this time for the whole operation. Zero does not wait at all.
    After(Duration),
}

impl Timeout {
    /// Returns whether the operation must not wait.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::After(Duration::ZERO)
    }

    /// Returns the remaining timeout of an operation that began at `started`. It is never zero, because zero
    /// means non-blocking.
    pub(crate) fn since(self, started: Instant) -> Self {
        match self {
            Self::After(duration) if !duration.is_zero() => {
                Self::After(duration.saturating_sub(started.elapsed()).max(Duration::from_millis(1)))
            }
            other => other,
        }
    }

    pub(crate) fn deadline(self) -> Deadline {
        match self {
            Self::Never => Deadline(None),
            // A time that the clock cannot represent is treated as no deadline.
            Self::After(duration) => Deadline(Instant::now().checked_add(duration)),
        }
    }

    /// Returns the deadline of an operation that always blocks, up to `bound`, even with a zero timeout.
    pub(crate) fn bounded(self, bound: Duration) -> Deadline {
        let duration = match self {
            Self::After(duration) if duration > Duration::ZERO => duration.min(bound),
            _ => bound,
        };
        Deadline(Instant::now().checked_add(duration))
    }
}

/// The time at which an operation gives up; `None` if there is no deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    fn left(self) -> Option<Duration> {
        self.0.map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn passed(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    pub(crate) fn is_never(self) -> bool {
        self.0.is_none()
    }

    /// Returns whether more than `duration` is left.
    pub(crate) fn is_beyond(self, duration: Duration) -> bool {
        self.left().is_none_or(|left| left > duration)
    }

    /// Waits until the descriptor is ready for one of `flags`, or has failed. Returns false if the deadline
    /// passed first.
    pub(crate) fn wait(self, fd: BorrowedFd<'_>, flags: PollFlags) -> Result<bool, Errno> {
        loop {
            let left = self.left().map(|left| Timespec::try_from(left).unwrap_or(MAX_TIMESPEC));
            match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], left.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

const MAX_TIMESPEC: Timespec = Timespec { tv_sec: i32::MAX as i64, tv_nsec: 0 };
