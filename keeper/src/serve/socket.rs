//! Common code for the sockets of fronts and of the supervisor: waiting, accepting, and sending with a deadline.

use crate::limits::SEND_DEADLINE;
use luassl_keeper_ipc::transport::{PollFlags, RecvError, RecvFlags, SendFlags, recv, send, wait};
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

/// A receive that did not fail.
pub(crate) enum Incoming {
    /// The peer has disconnected.
    End,
    /// No datagram has arrived yet.
    Nothing,
    /// A complete datagram: its length, and its descriptors.
    Datagram(usize, Vec<OwnedFd>),
}

/// Why a datagram cannot be used, or none can be received.
pub(crate) enum Unreceived {
    /// The datagram is longer than the buffer.
    Oversized,
    /// The datagram came with more descriptors than the caller takes, or than the process may open.
    Descriptors,
    /// The error of the system.
    System(Errno),
}

/// Receives one datagram into `buffer`, with at most `descriptors` descriptors.
pub(crate) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    descriptors: usize,
    flags: RecvFlags,
) -> Result<Incoming, Unreceived> {
    match recv(socket, buffer, descriptors, flags) {
        Err(RecvError::System(Errno::AGAIN)) => Ok(Incoming::Nothing),
        // The peer has ended and left answers unread.
        Err(RecvError::System(Errno::CONNRESET)) => Ok(Incoming::End),
        Err(RecvError::System(error)) => Err(Unreceived::System(error)),
        Err(RecvError::DescriptorsLost) => Err(Unreceived::Descriptors),
        Ok(received) if received.len == 0 => Ok(Incoming::End),
        Ok(received) if received.truncated => Err(Unreceived::Oversized),
        Ok(received) => Ok(Incoming::Datagram(received.len, received.descriptors)),
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
