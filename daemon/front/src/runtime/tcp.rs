//! TCP sockets.

use rustix::net::sockopt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A TCP socket, a connected or a listening one; closed without waiting, whatever SO_LINGER its client has set.
#[derive(Debug)]
pub(crate) struct Tcp(OwnedFd);

impl Tcp {
    /// A socket that the front accepted itself, or that has been looked at.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Drop for Tcp {
    /// A client that sets the option again in between holds a copy, and then this close is not the last.
    fn drop(&mut self) {
        // A socket that is beyond options is beyond lingering too.
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
