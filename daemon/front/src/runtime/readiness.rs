//! Registration of descriptors with a runtime's epoll.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// What owns a descriptor: it stays open and the same for as long as the value lives.
pub(crate) trait Owns: AsRawFd + AsFd {}

impl Owns for OwnedFd {}
impl Owns for crate::runtime::tcp::Tcp {}
impl Owns for crate::runtime::sockets::ClientSocket {}

/// Registers a descriptor for reading and writing.
///
/// # Errors
/// The kernel's: no watches left, or a descriptor that epoll does not take.
pub(crate) fn register<T: Owns>(fd: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: what owns its descriptor keeps it open and the same for as long as the AsyncFd holds it (`Owns`), and
    // the AsyncFd deregisters it before it gives it back or drops it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE) }?)
}

/// Registers a borrowed descriptor for reading.
///
/// # Errors
/// As [`register`].
pub(crate) fn register_borrowed(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the borrow keeps the descriptor open and the same for longer than the AsyncFd lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// A socket that moves between runtimes: an AsyncFd that is awaited on another one's thread hangs.
pub(crate) enum Detachable<T: Owns> {
    /// With no runtime.
    Parked(T),
    /// With the runtime of the thread that registered it.
    Registered(AsyncFd<T>),
    Closed,
}

impl<T: Owns> Detachable<T> {
    /// Registers the socket with the runtime of this thread.
    ///
    /// # Errors
    /// As [`register`]; the socket is then closed.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Parked(fd) => Self::Registered(register(fd)?),
            other => other,
        };
        Ok(())
    }

    /// Takes the socket from this thread's runtime, so that another thread's may have it.
    pub(crate) fn detach(&mut self) {
        *self = match std::mem::replace(self, Self::Closed) {
            Self::Registered(fd) => Self::Parked(fd.into_inner()),
            other => other,
        };
    }

    /// Closes the socket, which is taken from epoll first: a copy that a client holds would keep a live entry there.
    pub(crate) fn close(&mut self) {
        *self = Self::Closed;
    }

    /// The socket, as long as it is open.
    pub(crate) fn get(&self) -> Option<&T> {
        match self {
            Self::Parked(fd) => Some(fd),
            Self::Registered(fd) => Some(fd.get_ref()),
            Self::Closed => None,
        }
    }

    /// The socket with its readiness, while it is registered.
    pub(crate) fn registered(&self) -> Option<&AsyncFd<T>> {
        match self {
            Self::Registered(fd) => Some(fd),
            _ => None,
        }
    }
}
