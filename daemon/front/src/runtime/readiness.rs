//! Registers descriptors with a runtime's epoll.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// An owner of a descriptor. The descriptor stays open and the same as long as the value lives.
pub(crate) trait Owns: AsRawFd + AsFd {}

impl Owns for OwnedFd {}
impl Owns for crate::runtime::tcp::Tcp {}
impl Owns for crate::runtime::sockets::ClientSocket {}

/// Registers a descriptor for reading and writing.
///
/// # Errors
/// Returns the error of the kernel: no watches are left, or epoll does not accept the descriptor.
pub(crate) fn register<T: Owns>(fd: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the owner of a descriptor keeps it open and the same as long as the AsyncFd holds the owner (`Owns`), and
    // the AsyncFd deregisters the descriptor before it returns or drops the owner.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE) }?)
}

/// Registers a borrowed descriptor for reading.
///
/// # Errors
/// The same as [`register`].
pub(crate) fn register_borrowed(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the borrow keeps the descriptor open and the same for longer than the AsyncFd lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// A socket that moves between runtimes. An AsyncFd that is awaited on the thread of another runtime hangs.
pub(crate) enum Detachable<T: Owns> {
    /// Registered with no runtime.
    Parked(T),
    /// Registered with the runtime of the thread that registered it.
    Registered(AsyncFd<T>),
    Closed,
}

impl<T: Owns> Detachable<T> {
    /// Registers the socket with the runtime of this thread.
    ///
    /// # Errors
    /// The same as [`register`]. In this case the socket is closed.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Parked(fd) => Self::Registered(register(fd)?),
            other => other,
        };
        Ok(())
    }

    /// Deregisters the socket from this thread's runtime, so that another thread's runtime may register it.
    pub(crate) fn detach(&mut self) {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Registered(fd) => Self::Parked(fd.into_inner()),
            other => other,
        };
    }

    /// Closes the socket, after it is removed from epoll. A copy in a client would otherwise keep a live entry there.
    pub(crate) fn close(&mut self) {
        *self = Self::Closed;
    }

    /// Returns the socket; `None` if it is closed.
    pub(crate) fn get(&self) -> Option<&T> {
        match self {
            Self::Parked(fd) => Some(fd),
            Self::Registered(fd) => Some(fd.get_ref()),
            Self::Closed => None,
        }
    }

    /// Returns the socket with its readiness; `None` if it is not registered.
    pub(crate) fn registered(&self) -> Option<&AsyncFd<T>> {
        match self {
            Self::Registered(fd) => Some(fd),
            _ => None,
        }
    }
}
