//! Takes over a descriptor that a program passes as a number, for `attach`. This is the only module with
//! unsafe code.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The reason why a number cannot be used as a socket.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The number is not an open descriptor.
    #[error("descriptor {0} is not open: pass a connected socket")]
    NotOpen(RawFd),
    /// The number refers to something other than a socket.
    #[error("descriptor {0} is not a socket: pass a connected TCP socket")]
    NoSocket(RawFd),
}

/// A socket of the program, identified by its number. The program owns it until [`Adopted::into_owned`] is
/// called.
#[derive(Debug)]
pub struct Adopted(RawFd);

impl Adopted {
    /// Checks that the number is an open socket.
    ///
    /// # Errors
    /// Returns [`AdoptError`] if it is not.
    pub fn new(number: RawFd) -> Result<Self, AdoptError> {
        if number < 0 {
            return Err(AdoptError::NotOpen(number));
        }
        let adopted = Self(number);
        match rustix::net::sockopt::socket_type(&adopted) {
            Ok(_) => Ok(adopted),
            Err(rustix::io::Errno::NOTSOCK) => Err(AdoptError::NoSocket(number)),
            Err(_) => Err(AdoptError::NotOpen(number)),
        }
    }

    /// Takes ownership of the descriptor. The caller must make the program release it (`setfd(-1)` on a
    /// LuaSocket object).
    #[must_use]
    pub fn into_owned(self) -> OwnedFd {
        // SAFETY: the number was open when it was checked. The program transferred its ownership by calling
        // `attach`, so no other code closes it from this point.
        unsafe { OwnedFd::from_raw_fd(self.0) }
    }
}

impl AsFd for Adopted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the number is never -1 (checked in `new`). If the program has closed the number since, the
        // kernel returns EBADF, which callers handle like any other failure.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}
