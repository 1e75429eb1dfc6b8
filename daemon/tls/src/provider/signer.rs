//! The signer of the provider's keys, and the errors that it reports to libssl.

use crate::error::TlsError;
use crate::ffi;
use crate::identity::{SharedSigner, SignError, Signer};
use std::ffi::{CString, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

static SIGNER: OnceLock<SharedSigner> = OnceLock::new();

/// The reason in the error queue, with `ERR_LIB_USER`, if the keeper cannot be reached.
pub(crate) const REASON_UNAVAILABLE: c_int = 1;
/// The reason in the error queue, with `ERR_LIB_USER`, if the keeper refused. The keeper's reason is the data of the
/// error.
pub(crate) const REASON_REFUSED: c_int = 2;

/// Sets the signer of the provider's keys, once.
pub(super) fn set(signer: SharedSigner) -> Result<(), TlsError> {
    SIGNER.set(signer).map_err(|_| TlsError::Installed)
}

/// Calls the signer. If it fails, adds an error to OpenSSL's queue.
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

/// Adds an error of this provider to OpenSSL's queue, for `tls::failure`.
pub(super) fn raise(reason: c_int, data: &str) {
    let data = CString::new(data).unwrap_or_default();
    // SAFETY: the format takes one C string, which outlives the call; libcrypto copies it.
    unsafe {
        openssl_sys::ERR_new();
        openssl_sys::ERR_set_error(ffi::ERR_LIB_USER, reason, c"%s".as_ptr(), data.as_ptr());
    }
}
