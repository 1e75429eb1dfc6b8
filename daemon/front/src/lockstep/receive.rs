//! Waits for the next request of a lock-step connection, and receives it.

use super::frame::whole;
use super::spin::SpinWait;
use super::{Event, LockStep, Step};
use luassl_protocol::{FRAME_HEADER, MAX_LOCK_STEP_FRAME};
use rustix::io::Errno;
use std::{
    cell::RefCell,
    task::{self, Poll},
    thread,
};
use tokio::task::yield_now;

thread_local! {
    static SCRATCH: RefCell<Option<Box<[u8]>>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's buffer for requests.
fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let fresh = || vec![0; FRAME_HEADER + MAX_LOCK_STEP_FRAME].into_boxed_slice();
    let mut scratch = SCRATCH.with_borrow_mut(Option::take).unwrap_or_else(fresh);
    let outcome = work(&mut scratch);
    SCRATCH.with_borrow_mut(|slot| *slot = Some(scratch));
    outcome
}

impl LockStep {
    /// Returns the next event to handle, after an answer.
    pub(super) async fn event(&mut self) -> Event {
        let answered = std::time::Instant::now();
        let event = match self.spin_wait(answered).await {
            Some(event) => event,
            None => std::future::poll_fn(|cx| self.poll_event(cx)).await,
        };
        if matches!(event, Event::Readable) {
            self.spin.came(answered.elapsed());
        }
        event
    }

    /// Spins for the next event if that is likely to pay. Between two attempts the other connections of this thread,
    /// and other processes, can run.
    pub(super) async fn spin_wait(&mut self, now: std::time::Instant) -> Option<Event> {
        let wait = SpinWait::begin(now, self.spin.spin_time()?)?;
        loop {
            let polled = std::future::poll_fn(|cx| Poll::Ready(self.poll_event(cx))).await;
            if let Poll::Ready(event) = polled {
                return Some(event);
            }
            if wait.is_over() {
                self.spin.was_in_vain();
                return None;
            }
            // The program may have to run on this core.
            thread::yield_now();
            yield_now().await;
        }
    }

    pub(super) fn poll_event(&self, cx: &mut task::Context<'_>) -> Poll<Event> {
        if let Some(command) = self.connection.next_command(cx.waker()) {
            return Poll::Ready(Event::Command(command));
        }
        let Some(socket) = self.lua.registered() else { return Poll::Ready(Event::Gone) };
        socket.poll_read_ready(cx).map(|ready| match ready {
            Ok(_) => Event::Readable,
            Err(_) => Event::Gone,
        })
    }

    /// Receives the available data, and executes the request if it is complete.
    pub(super) fn receive(&mut self) -> Step {
        with_scratch(|scratch| {
            let room = FRAME_HEADER + MAX_LOCK_STEP_FRAME - self.inbox.len();
            let count = match self.take(&mut scratch[..room]) {
                Ok(0) => return Step::Gone,
                Ok(count) => count,
                Err(Errno::WOULDBLOCK) => return Step::Wait,
                Err(_) => return Step::Gone,
            };
            let bytes = &scratch[..count];
            if !self.inbox.is_empty() {
                self.inbox.extend_from_slice(bytes);
                return match whole(&self.inbox) {
                    Ok(Some(_)) => self.execute_kept(),
                    Ok(None) => Step::Wait,
                    Err(()) => Step::Gone,
                };
            }
            let step = match whole(bytes) {
                Ok(Some(body)) if FRAME_HEADER + body.len() == count => self.execute(body),
                // A second request before the answer to the first.
                Ok(Some(_)) | Err(()) => return Step::Gone,
                Ok(None) => Step::Wait,
            };
            if matches!(step, Step::Wait | Step::NeedsSignature) {
                self.inbox = bytes.to_vec();
            }
            step
        })
    }

    /// Receives once. One request arrives at a time, so the socket is empty after it. The readiness is cleared before
    /// the answer lets the next request arrive.
    pub(super) fn take(&self, room: &mut [u8]) -> Result<usize, Errno> {
        let socket = self.lua.registered().ok_or(Errno::NOTCONN)?;
        let received = socket.get_ref().receive(room);
        let mut context = task::Context::from_waker(task::Waker::noop());
        let full =
            matches!(&received, Ok(received) if received.count == room.len() || received.had_descriptors);
        if !full && let Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(&mut context) {
            guard.clear_ready();
        }
        received.map(|received| received.count)
    }
}
