//! Takes over a descriptor that a program passes as a number, for `attach`. The only module with unsafe code.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Why a number cannot be used as a socket.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The number is not an open descriptor.
    #[error("descriptor {0} is not open: pass a connected socket")]
    NotOpen(RawFd),
    /// The number refers to something other than a socket.
    #[error("descriptor {0} is not a socket: pass a connected TCP socket")]
    NoSocket(RawFd),
}

/// A socket of the program under its number. It stays the program's until [`Adopted::into_owned`].
#[derive(Debug)]
pub struct Adopted(RawFd);

impl Adopted {
    /// Checks that the number is an open socket.
    ///
    /// # Errors
    /// [`AdoptError`] where it is not.
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

    /// Takes ownership of the descriptor. The caller must make the program give it up (`setfd(-1)` on a LuaSocket
    /// object).
    #[must_use]
    pub fn into_owned(self) -> OwnedFd {
        // SAFETY: the number was open when it was checked, and the program handed it over by calling `attach`: from
        // here on nobody else closes it.
        unsafe { OwnedFd::from_raw_fd(self.0) }
    }
}

impl AsFd for Adopted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: never -1 (checked in `new`). Should the program have closed the number since, the kernel answers
        // EBADF, which callers treat as any other failure.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}
