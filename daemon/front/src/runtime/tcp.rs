//! TCP sockets.

use rustix::net::sockopt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A connected or listening TCP socket. It is closed without waiting, whatever SO_LINGER its client has set.
#[derive(Debug)]
pub(crate) struct Tcp(OwnedFd);

impl Tcp {
    /// Wraps a socket that the front itself accepted, or that has been checked.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Drop for Tcp {
    /// Resets SO_LINGER. If a client sets the option again before the close, it has a copy, and this close is not the
    /// last.
    fn drop(&mut self) {
        // If the option cannot be set on a socket, the socket cannot linger either.
        let _ = sockopt::set_socket_linger(&self.0, None);
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Tcp {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
