//! Whoever signs for the provider's keys, and how libssl learns that it did not.

use crate::error::TlsError;
use crate::ffi;
use crate::identity::{SharedSigner, SignError, Signer};
use std::ffi::{CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

static SIGNER: OnceLock<SharedSigner> = OnceLock::new();

/// In the error queue, with `ERR_LIB_USER`: the keeper cannot be reached.
pub(crate) const REASON_UNAVAILABLE: c_int = 1;
/// In the error queue, with `ERR_LIB_USER`: the keeper refused; its reason is the error's data.
pub(crate) const REASON_REFUSED: c_int = 2;

/// Has the provider's keys sign by `signer`; once.
pub(super) fn set(signer: SharedSigner) -> Result<(), TlsError> {
    SIGNER.set(signer).map_err(|_| TlsError::Installed)
}

/// Asks the signer; where it fails, says so on OpenSSL's queue.
pub(super) fn ask<T>(request: impl FnOnce(&dyn Signer) -> Result<T, SignError>) -> Option<T> {
    let signer = SIGNER.get()?;
    // A panic must not cross into libcrypto.
    match catch_unwind(AssertUnwindSafe(|| request(&**signer))) {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(SignError::Unavailable)) => raise(REASON_UNAVAILABLE, ""),
        Ok(Err(SignError::Refused(reason))) => raise(REASON_REFUSED, &reason),
        Err(_) => raise(REASON_REFUSED, "the signer failed"),
    }
    None
}

/// Puts an error of our own on OpenSSL's queue, where `tls::failure` finds it.
pub(super) fn raise(reason: c_int, data: &str) {
    let data = CString::new(data).unwrap_or_default();
    // SAFETY: the format takes one C string, which outlives the call; libcrypto copies it.
    unsafe {
        openssl_sys::ERR_new();
        openssl_sys::ERR_set_error(ffi::ERR_LIB_USER, reason, c"%s".as_ptr(), data.as_ptr());
    }
}
