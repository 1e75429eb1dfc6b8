//! Messages with descriptors on Unix sockets. The functions wait only if their flags allow it, and do not
//! raise SIGPIPE.

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::mem::MaybeUninit;

/// The maximum number of descriptors of a receive. It is larger than that of any message, so that a front
/// that sends too many is detected and no descriptor leaks.
const MAX_DESCRIPTORS: usize = 4;

/// The result of one recvmsg(2).
pub(crate) struct Received {
    /// The number of bytes in the buffer; 0 is the end.
    pub(crate) length: usize,
    /// The first descriptor of the message; others are closed.
    pub(crate) fd: Option<OwnedFd>,
    /// Whether the message or its descriptors did not fit. The most likely cause is that the process has no
    /// free descriptor.
    pub(crate) truncated: bool,
}

/// Calls sendmsg(2) with at most one descriptor on the first byte. Returns the number of bytes sent.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = fd.as_ref() {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL)
}

/// Calls recvmsg(2) for data and an optional descriptor, close-on-exec.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags | RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().filter_map(|item| match item {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd = fds.flatten().reduce(|first, _| first);
    let truncated = message.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
    Ok(Received { length: message.bytes, fd, truncated })
}
