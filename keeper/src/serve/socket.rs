//! Common code for the sockets of fronts and of the supervisor: waiting, accepting, and sending with a deadline.

use crate::limits::SEND_DEADLINE;
use luassl_keeper_ipc::transport::{PollFlags, SendFlags, send, wait};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SocketFlags, accept_with};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Waits for a connection. Works with a blocking and with a non-blocking listener.
pub(crate) fn accept(listener: &OwnedFd) -> Result<OwnedFd, Errno> {
    loop {
        wait([listener.as_fd()], PollFlags::IN, None)?;
        match retry_on_intr(|| accept_with(listener, SocketFlags::CLOEXEC)) {
            // The peer has already disconnected.
            Err(Errno::AGAIN | Errno::CONNABORTED) => {}
            done => return done,
        }
    }
}

/// Sends a datagram. If the peer does not read, waits up to [`SEND_DEADLINE`].
///
/// # Errors
/// The error of the system; [`Errno::TIMEDOUT`] at the deadline.
pub(crate) fn send_soon(socket: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let deadline = Instant::now() + SEND_DEADLINE;
    loop {
        match send(socket, bytes, &[], SendFlags::DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let [ready] = wait([socket.as_fd()], PollFlags::OUT, Some(left))?;
        if !ready {
            return Err(Errno::TIMEDOUT);
        }
    }
}
