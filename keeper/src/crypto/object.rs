//! Owned libcrypto objects, and libcrypto errors.

use openssl_sys as ffi;
use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};

/// libcrypto failed. The text comes from libcrypto.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(pub(super) String);

impl CryptoError {
    /// Takes the reason of the newest error of this thread, and discards the others.
    pub(super) fn last() -> Self {
        // SAFETY: both calls work on the thread's own queue; the text, if there is any, is static.
        let reason = unsafe {
            let reason = ffi::ERR_reason_error_string(ffi::ERR_peek_last_error());
            ffi::ERR_clear_error();
            reason
        };
        if reason.is_null() {
            return Self("libcrypto gives no reason".to_owned());
        }
        // SAFETY: libcrypto's reasons are zero-terminated and never freed while the process runs.
        Self(unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned())
    }
}

/// A libcrypto object that this code owns, and the function that frees it.
pub(super) struct Owned<T> {
    object: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes the result of a libcrypto function. If it is null, returns the error that the function left in the queue.
    ///
    /// # Safety
    /// `object` is null or has no other owner, and `free` is the function that frees it.
    pub(super) unsafe fn new(
        object: *mut T,
        free: unsafe extern "C" fn(*mut T),
    ) -> Result<Self, CryptoError> {
        NonNull::new(object).map(|object| Self { object, free }).ok_or_else(CryptoError::last)
    }

    pub(super) fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: this value owns the object (`new`), and only this code frees it.
        unsafe { (self.free)(self.object.as_ptr()) }
    }
}

/// Calls an `i2d_` function twice: first for the length, then for the bytes. For public objects only.
pub(super) fn to_der(encode: impl Fn(*mut *mut u8) -> c_int) -> Result<Vec<u8>, CryptoError> {
    let length = usize::try_from(encode(ptr::null_mut())).map_err(|_| CryptoError::last())?;
    let mut der = vec![0; length];
    let mut end = der.as_mut_ptr();
    if usize::try_from(encode(&raw mut end)) != Ok(length) {
        return Err(CryptoError::last());
    }
    Ok(der)
}
