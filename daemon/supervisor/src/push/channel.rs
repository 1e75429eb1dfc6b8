//! Messages on admin sockets, with deadlines.

use luassl_keeper_ipc::transport::{self, Received, RecvError, RecvFlags, SendFlags};
use luassl_settings::MessageError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The deadline for the answer to one message of a push. An encrypted key with an expensive derivation takes
/// seconds; a process that needs longer than this deadline hangs.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The other side did not answer.
    #[error("no answer within {} s", ANSWER_DEADLINE.as_secs())]
    Unanswered,
    /// The other side does not read. No part of this message was sent.
    #[error("the socket buffer stayed full for {} s", ANSWER_DEADLINE.as_secs())]
    Unread,
    /// The other side closed the admin socket.
    #[error("the admin socket was closed before the answer")]
    Closed,
    /// A system call failed.
    #[error("the admin socket failed: {0}")]
    System(#[from] Errno),
    /// The other side sent an invalid message.
    #[error("malformed message on the admin socket: {0}")]
    Malformed(String),
    /// A part of the push exceeds its limit.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its limit, in bytes.
        limit: u64,
    },
}

impl PushError {
    /// Returns whether the other side may only be busy: it did not answer, but did not violate the protocol.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Unread)
    }
}

impl From<MessageError> for PushError {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Malformed(fault) => Self::Malformed(fault),
            MessageError::TooLarge { what, limit } => Self::TooLarge { what, limit },
            MessageError::System(errno) => Self::System(errno),
        }
    }
}

impl From<RecvError> for PushError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::System(errno) => Self::System(errno),
            lost @ RecvError::DescriptorsLost => Self::Malformed(lost.to_string()),
        }
    }
}

/// Sends one datagram. Waits for space in the socket buffer until the deadline.
pub(super) fn send_within(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), PushError> {
    let end = Instant::now() + ANSWER_DEADLINE;
    loop {
        match transport::send(socket, bytes, descriptors, SendFlags::DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::AGAIN) if wait(socket, PollFlags::OUT, end)? => {}
            Err(Errno::AGAIN) => return Err(PushError::Unread),
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(PushError::Closed),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one datagram without descriptors. Waits for it until the deadline.
pub(super) fn receive_within(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, PushError> {
    receive_by(socket, buffer, Instant::now() + ANSWER_DEADLINE)
}

pub(super) fn receive_by(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    end: Instant,
) -> Result<usize, PushError> {
    loop {
        match transport::recv(socket, buffer, 0, RecvFlags::DONTWAIT) {
            Ok(Received { len: 0, .. }) => return Err(PushError::Closed),
            Ok(Received { truncated: true, .. }) => return Err(PushError::Malformed("too long".to_owned())),
            Ok(received) => return Ok(received.len),
            Err(RecvError::System(Errno::AGAIN)) if wait(socket, PollFlags::IN, end)? => {}
            Err(RecvError::System(Errno::AGAIN)) => return Err(PushError::Unanswered),
            Err(RecvError::System(Errno::CONNRESET)) => return Err(PushError::Closed),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the deadline at most. Returns false if no event occurred by then.
fn wait(socket: BorrowedFd<'_>, events: PollFlags, end: Instant) -> Result<bool, PushError> {
    let Some(left) = end.checked_duration_since(Instant::now()) else { return Ok(false) };
    let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let ready = rustix::io::retry_on_intr(|| {
        poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), events)], Some(&left))
    })?;
    Ok(ready > 0)
}
