//! A file's content in memory that libcrypto allocated, wiped when it is dropped.

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

/// Why a file was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadFault {
    /// A pipe, a socket or a device: reading it could block forever.
    #[error("it is not a regular file")]
    NotRegular,
    /// More bytes than such a file has.
    #[error("it has more than {0} bytes")]
    TooLong(usize),
    /// Bytes were added meanwhile.
    #[error("it changed while it was read: try again")]
    Changed,
    /// libcrypto has no memory for it.
    #[error("not enough memory for it")]
    Memory,
    /// The system's answer.
    #[error("it cannot be read: {0}")]
    System(#[from] Errno),
}

impl SecretFile {
    /// Reads a regular file of at most `max` bytes whole, from its start, wherever the descriptor stands.
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

    /// Random bytes.
    ///
    /// # Errors
    /// [`CryptoError`] when libcrypto has no memory or no randomness.
    pub(super) fn random(len: usize) -> Result<Self, CryptoError> {
        Self::filled(len, |bytes| {
            let count = c_int::try_from(bytes.len()).unwrap_or_default();
            // SAFETY: writes `count` bytes, which is how many there are.
            unsafe { ffi::RAND_priv_bytes(bytes.as_mut_ptr(), count) == 1 }
        })
    }

    /// What `fill` writes into `len` bytes of libcrypto's memory; it says whether libcrypto did.
    ///
    /// # Errors
    /// [`CryptoError`] when libcrypto has no memory or did not.
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
        // SAFETY: allocates `capacity` bytes, or returns null; the place of the call is for debugging alone.
        let bytes = unsafe { CRYPTO_zalloc(capacity, c"keeper".as_ptr(), 0) };
        let bytes = NonNull::new(bytes.cast()).ok_or(ReadFault::Memory)?;
        Ok(Self { bytes, len: 0, capacity })
    }

    fn unfilled(&mut self) -> &mut [u8] {
        // SAFETY: `capacity` bytes are allocated and zeroed, `len` never exceeds it, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr().add(self.len), self.capacity - self.len) }
    }

    /// The content. Never to be copied into Rust's memory before it is known to be public.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are initialised and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.len) }
    }

    /// The content as a passphrase: without the newline that editors and `echo` put at the end.
    pub(super) fn passphrase(&self) -> &[u8] {
        let bytes = self.bytes();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes.strip_suffix(b"\r").unwrap_or(bytes)
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `text` is somewhere in it.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.bytes().windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// The content, where it begins as a staple does.
    ///
    /// # Errors
    /// [`NoStaple`] where it does not; nothing of it was copied then.
    pub(crate) fn staple(&self) -> Result<Vec<u8>, NoStaple> {
        staple::check(self.bytes()).map(|()| self.bytes().to_vec())
    }

    /// A BIO that reads the content in place.
    pub(super) fn bio(&self) -> Result<Owned<ffi::BIO>, CryptoError> {
        let length = c_int::try_from(self.len).map_err(|_| CryptoError("too long".to_owned()))?;
        // SAFETY: a memory BIO only reads these bytes; callers drop it before `self`.
        unsafe { Owned::new(ffi::BIO_new_mem_buf(self.bytes.as_ptr().cast(), length), ffi::BIO_free_all) }
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // SAFETY: allocated by CRYPTO_zalloc with this capacity, and freed here alone.
        unsafe { CRYPTO_clear_free(self.bytes.as_ptr().cast(), self.capacity, c"keeper".as_ptr(), 0) }
    }
}
