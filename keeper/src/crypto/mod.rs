//! libcrypto: the only place of the keeper that calls it, and (beside `sockets`) the only one with unsafe code.
//!
//! Key bytes live in memory that libcrypto allocated, from the read of the file on ([`SecretFile`]); no Rust `Vec` or
//! `String` ever has them. So the allocator that libcrypto is given decides where keys lie, and [`start`], which runs
//! before anything else, is the place to give it one.

mod decrypt;
mod key;
mod load;
mod pem;
mod point;
mod secret;
mod ticket;

pub(crate) use key::{KeyFault, PrivateKey};
pub(crate) use pem::certificates;
pub(crate) use point::is_on_curve;
pub(crate) use secret::{ReadFault, SecretFile};
pub(crate) use ticket::TicketRoot;

use openssl_sys as ffi;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ptr::{self, NonNull};

/// libcrypto failed; the text is its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(String);

unsafe extern "C" {
    fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
    fn EVP_Digest(
        data: *const c_void,
        count: usize,
        digest: *mut u8,
        size: *mut c_uint,
        kind: *const ffi::EVP_MD,
        engine: *mut c_void,
    ) -> c_int;
}

/// `<openssl/crypto.h>`: openssl.cnf, and with it OPENSSL_CONF, is not read.
const OPENSSL_INIT_NO_LOAD_CONFIG: u64 = 0x80;

/// Starts libcrypto, without a configuration file. Must be the first call of the process: nothing else may have made
/// libcrypto allocate.
///
/// # Errors
/// [`CryptoError`] when libcrypto does not start.
pub(crate) fn start() -> Result<(), CryptoError> {
    // SAFETY: the options need no settings, and a null pointer stands for none.
    match unsafe { OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, ptr::null()) } {
        1 => Ok(()),
        _ => Err(CryptoError::last()),
    }
}

/// SHA-256 of public bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Result<[u8; 32], CryptoError> {
    let mut digest = [0; 32];
    // SAFETY: SHA-256 writes 32 bytes, which is what there is; the input is a live slice.
    let done = unsafe {
        EVP_Digest(
            bytes.as_ptr().cast(),
            bytes.len(),
            digest.as_mut_ptr(),
            ptr::null_mut(),
            ffi::EVP_sha256(),
            ptr::null_mut(),
        )
    };
    if done == 1 { Ok(digest) } else { Err(CryptoError::last()) }
}

impl CryptoError {
    /// Takes the reason of the newest error of this thread, and forgets the others.
    fn last() -> Self {
        // SAFETY: both work on the thread's own queue; the text, if there is any, is static.
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

/// An object of libcrypto that belongs to us, and the function that frees it.
struct Owned<T> {
    object: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes what a libcrypto function has returned; null is the error that it left in the queue.
    ///
    /// # Safety
    /// `object` is null or nobody else's, and `free` is the function that frees it.
    unsafe fn new(object: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, CryptoError> {
        NonNull::new(object).map(|object| Self { object, free }).ok_or_else(CryptoError::last)
    }

    fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the object is ours (`new`), and is freed here alone.
        unsafe { (self.free)(self.object.as_ptr()) }
    }
}

/// Calls an `i2d_` function twice: for the length, then for the bytes. For public objects only.
fn to_der(encode: impl Fn(*mut *mut u8) -> c_int) -> Result<Vec<u8>, CryptoError> {
    let length = usize::try_from(encode(ptr::null_mut())).map_err(|_| CryptoError::last())?;
    let mut der = vec![0; length];
    let mut end = der.as_mut_ptr();
    if usize::try_from(encode(&raw mut end)) != Ok(length) {
        return Err(CryptoError::last());
    }
    Ok(der)
}
