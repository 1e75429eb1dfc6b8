//! The content of a file, in memory that libcrypto allocated. It is wiped when it is dropped.

use crate::crypto::object::{CryptoError, Owned};
use crate::identities::staple::{self, NoStaple};
use openssl_sys as ffi;
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, pread, retry_on_intr};
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

unsafe extern "C" {
    fn CRYPTO_zalloc(len: usize, file: *const c_char, line: c_int) -> *mut c_void;
    pub(super) fn CRYPTO_clear_free(bytes: *mut c_void, len: usize, file: *const c_char, line: c_int);
}

/// Bytes that may be secret. The type has neither Debug nor Clone, and its bytes stay within `crypto`.
pub(crate) struct SecretFile {
    bytes: NonNull<u8>,
    len: usize,
    capacity: usize,
}

/// The reason why a file was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadFault {
    /// The file is a pipe, a socket or a device. Reading it could block forever.
    #[error("it is not a regular file")]
    NotRegular,
    /// The file has more bytes than allowed.
    #[error("it has more than {0} bytes")]
    TooLong(usize),
    /// Bytes were added during the read.
    #[error("it changed while it was read: try again")]
    Changed,
    /// libcrypto has no memory for the content.
    #[error("not enough memory for it")]
    Memory,
    /// The system returned an error.
    #[error("it cannot be read: {0}")]
    System(#[from] Errno),
}

impl SecretFile {
    /// Reads a whole regular file of at most `max` bytes, from its start, independent of the position of the
    /// descriptor.
    ///
    /// # Errors
    /// [`ReadFault`].
    pub(crate) fn read(file: BorrowedFd<'_>, max: usize) -> Result<Self, ReadFault> {
        let stat = fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ReadFault::NotRegular);
        }
        let size =
            usize::try_from(stat.st_size).ok().filter(|size| *size <= max).ok_or(ReadFault::TooLong(max))?;
        let mut content = Self::zeroed(size + 1)?;
        while content.len < content.capacity {
            let offset = content.len as u64;
            match retry_on_intr(|| pread(file, content.unfilled(), offset))? {
                0 => return Ok(content),
                count => content.len += count,
            }
        }
        Err(ReadFault::Changed)
    }

    /// Returns random bytes.
    ///
    /// # Errors
    /// [`CryptoError`] if libcrypto has no memory or no randomness.
    pub(super) fn random(len: usize) -> Result<Self, CryptoError> {
        Self::filled(len, |bytes| {
            let count = c_int::try_from(bytes.len()).unwrap_or_default();
            // SAFETY: the call writes `count` bytes, which is the size of the buffer.
            unsafe { ffi::RAND_priv_bytes(bytes.as_mut_ptr(), count) == 1 }
        })
    }

    /// Returns the bytes that `fill` writes into `len` bytes of libcrypto's memory. `fill` returns whether libcrypto
    /// succeeded.
    ///
    /// # Errors
    /// [`CryptoError`] if libcrypto has no memory or `fill` fails.
    pub(super) fn filled(len: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> Result<Self, CryptoError> {
        let none = |_| CryptoError("not enough memory for it".to_owned());
        let mut content = Self::zeroed(len).map_err(none)?;
        if !fill(content.unfilled()) {
            return Err(CryptoError::last());
        }
        content.len = len;
        Ok(content)
    }

    fn zeroed(capacity: usize) -> Result<Self, ReadFault> {
        // SAFETY: the call allocates `capacity` bytes, or returns null; the source location is for debugging only.
        let bytes = unsafe { CRYPTO_zalloc(capacity, c"keeper".as_ptr(), 0) };
        let bytes = NonNull::new(bytes.cast()).ok_or(ReadFault::Memory)?;
        Ok(Self { bytes, len: 0, capacity })
    }

    fn unfilled(&mut self) -> &mut [u8] {
        // SAFETY: `capacity` bytes are allocated and zeroed, `len` never exceeds it, and `self` is borrowed
        // exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr().add(self.len), self.capacity - self.len) }
    }

    /// Returns the content. It must not be copied into Rust's memory before it is known to be public.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are initialised and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.len) }
    }

    /// Returns the content as a passphrase, without the newline that editors and `echo` add at the end.
    pub(super) fn passphrase(&self) -> &[u8] {
        let bytes = self.bytes();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes.strip_suffix(b"\r").unwrap_or(bytes)
    }

    /// Returns whether the content is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the content contains `text`.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.bytes().windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// Returns a copy of the content if it begins as a staple does.
    ///
    /// # Errors
    /// [`NoStaple`] if it does not. In that case nothing is copied.
    pub(crate) fn staple(&self) -> Result<Vec<u8>, NoStaple> {
        staple::check(self.bytes()).map(|()| self.bytes().to_vec())
    }

    /// Returns a BIO that reads the content in place.
    pub(super) fn bio(&self) -> Result<Owned<ffi::BIO>, CryptoError> {
        let length = c_int::try_from(self.len).map_err(|_| CryptoError("too long".to_owned()))?;
        // SAFETY: a memory BIO only reads these bytes; callers drop it before `self`.
        unsafe { Owned::new(ffi::BIO_new_mem_buf(self.bytes.as_ptr().cast(), length), ffi::BIO_free_all) }
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // SAFETY: allocated by CRYPTO_zalloc with this capacity, and freed only here.
        unsafe { CRYPTO_clear_free(self.bytes.as_ptr().cast(), self.capacity, c"keeper".as_ptr(), 0) }
    }
}
