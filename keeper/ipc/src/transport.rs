//! Datagrams with descriptors over AF_UNIX sockets.
//!
//! Waiting ([`wait`]) is separate from sending and receiving, so that every call can have a deadline.
//!
//! Received descriptors are close-on-exec from the start. Descriptors that the caller does not take are closed. A
//! signal never interrupts a call, and a closed peer is an error, not SIGPIPE.

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::{Errno, IoSlice, IoSliceMut, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    recvmsg, sendmsg,
};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub use rustix::event::PollFlags;
pub use rustix::net::{RecvFlags, SendFlags};

/// The maximum number of descriptors that the kernel accepts in one message (SCM_MAX_FD, unix(7)).
pub const DESCRIPTORS_MAX: usize = 253;

/// One received datagram, or a part of a stream. The bytes are in the caller's buffer.
#[derive(Debug)]
pub struct Received {
    /// The number of bytes. 0 means that the peer has closed the socket.
    pub len: usize,
    /// The received descriptors.
    pub descriptors: Vec<OwnedFd>,
    /// Whether the datagram was longer than the buffer and was truncated.
    pub truncated: bool,
}

/// The reason why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The message had more descriptors than the caller takes, or than this process may open (MSG_CTRUNC). The
    /// descriptors that did arrive are closed, and the bytes of the message are lost.
    #[error("more descriptors arrived than can be accepted")]
    DescriptorsLost,
    /// The error of the system; [`Errno::AGAIN`] if a non-blocking call would have to wait.
    #[error("receiving failed: {0}")]
    System(#[from] Errno),
}

/// Sends one datagram, or a part of a stream, with descriptors. Returns the number of bytes sent (all bytes for a
/// datagram).
///
/// # Errors
/// The error of the system; [`Errno::INVAL`] for more than [`DESCRIPTORS_MAX`] descriptors, [`Errno::AGAIN`] if
/// `SendFlags::DONTWAIT` is given and the peer does not read.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(Errno::INVAL);
    }
    let mut space = vec![MaybeUninit::uninit(); rights_space(descriptors.len())];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let flags = flags | SendFlags::NOSIGNAL;
    retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags))
}

/// Receives one datagram, or a part of a stream, and at most `max_descriptors` descriptors.
///
/// # Errors
/// [`RecvError`].
pub fn recv(
    socket: impl AsFd,
    buffer: &mut [u8],
    max_descriptors: usize,
    flags: RecvFlags,
) -> Result<Received, RecvError> {
    let mut space = vec![MaybeUninit::uninit(); rights_space(max_descriptors)];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let message = retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags))?;
    let descriptors = take_descriptors(&mut control);
    // The alignment of the control buffer can leave room for one more descriptor than requested.
    if message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > max_descriptors {
        return Err(RecvError::DescriptorsLost);
    }
    Ok(Received { len: message.bytes, descriptors, truncated: message.flags.contains(ReturnFlags::TRUNC) })
}

/// Waits until one of the descriptors has one of the events or has ended, and returns which of them have. After the
/// given time (`None`: no limit), all results are `false`.
///
/// # Errors
/// The error of the system.
pub fn wait<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    events: PollFlags,
    time: Option<Duration>,
) -> Result<[bool; N], Errno> {
    // A time that the system cannot express is treated as no limit.
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    let mut polled = descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, events));
    retry_on_intr(|| poll(&mut polled, time.as_ref()))?;
    Ok(polled.map(|one| !one.revents().is_empty()))
}

fn rights_space(count: usize) -> usize {
    if count == 0 { 0 } else { rustix::cmsg_space!(ScmRights(count)) }
}

fn take_descriptors(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    rights.flatten().collect()
}
