//! The health of the keeper: whether it is reachable, and since when it is not. Also wakes the subscription's thread.

use luassl_keeper_ipc::transport::{PollFlags, wait};
use parking_lot::{Mutex, MutexGuard};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The health, which the callers and the subscription's thread share.
pub(super) struct Health {
    state: Mutex<State>,
    /// An eventfd, which is written to when the subscription's thread should check: at the end, or after a doubt.
    alarm: OwnedFd,
    ended: AtomicBool,
}

struct State {
    /// The time at which the keeper was lost; `None` while it answers.
    lost: Option<Instant>,
    deadline: Duration,
}

impl Health {
    pub(super) fn new(deadline: Duration) -> io::Result<Self> {
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = Mutex::new(State { lost: None, deadline });
        Ok(Self { state, alarm, ended: AtomicBool::new(false) })
    }

    /// Locks the state. Each change under the lock is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn set_deadline(&self, deadline: Duration) {
        self.state().deadline = deadline;
    }

    /// Records that the keeper answers. Returns true if it had been lost.
    pub(super) fn found(&self) -> bool {
        self.state().lost.take().is_some()
    }

    /// Records that the keeper does not answer, since `since` at the latest. Returns true if it was not lost before.
    pub(super) fn lost(&self, since: Instant) -> bool {
        let mut state = self.state();
        let news = state.lost.is_none();
        state.lost = Some(state.lost.map_or(since, |lost| lost.min(since)));
        news
    }

    /// Returns how long a call that began at `start` may still wait; `None` if its time is over.
    pub(super) fn time_left(&self, start: Instant) -> Option<Duration> {
        let state = self.state();
        let end = state.lost.map_or(start, |lost| lost.min(start)) + state.deadline;
        Some(end.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Records that a call has timed out. The subscription then checks whether the keeper is alive.
    pub(super) fn doubt(&self) {
        // A full counter also wakes the thread. There is no other error.
        let _ = rustix::io::write(&self.alarm, &1_u64.to_ne_bytes());
    }

    /// Ends the subscription's thread.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.doubt();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits for the socket or for an alarm. Returns which of them is ready.
    pub(super) fn wait(&self, socket: &OwnedFd) -> Result<(bool, bool), Errno> {
        let [socket, alarm] = wait([socket.as_fd(), self.alarm.as_fd()], PollFlags::IN, None)?;
        if alarm {
            self.silence();
        }
        Ok((socket, alarm))
    }

    /// Waits for a time, or for an alarm.
    pub(super) fn pause(&self, time: Duration) {
        if let Ok([true]) = wait([self.alarm.as_fd()], PollFlags::IN, Some(time)) {
            self.silence();
        }
    }

    fn silence(&self) {
        // If there is nothing to read, the alarm has been read already.
        let _ = rustix::io::read(&self.alarm, &mut [0_u8; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(1000);

    #[test]
    fn one_deadline_counts_for_all_calls_from_the_loss_on() {
        let health = Health::new(DEADLINE).expect("eventfd");
        let now = Instant::now();
        let lost = now.checked_sub(Duration::from_secs(600)).expect("the clock has run that long");
        assert!(health.lost(lost));
        assert!(!health.lost(now));
        let left = health.time_left(now).expect("not over");
        assert!(left <= Duration::from_secs(400), "{left:?}");
        health.set_deadline(Duration::from_secs(500));
        assert_eq!(health.time_left(now), None);
        assert!(health.found());
        assert!(!health.found());
        assert!(health.time_left(now).is_some());
    }
}
