//! Registration of descriptors with the runtime's epoll.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Registers an owned descriptor for reading and writing.
///
/// # Errors
/// The kernel's: no watches left, or a descriptor that epoll does not take.
pub(super) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its descriptor open and the same for as long as the AsyncFd holds it, and the
    // AsyncFd deregisters it before it gives it back or drops it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE) }?)
}

/// Registers a borrowed descriptor for reading.
///
/// # Errors
/// As [`register`].
pub(super) fn register_borrowed(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the borrow keeps the descriptor open and the same for longer than the AsyncFd lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
