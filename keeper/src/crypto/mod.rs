//! The only module of the keeper that calls libcrypto, and (with `sockets`) the only one with unsafe code.
//!
//! Key bytes stay in memory that libcrypto allocated, from the moment when the file is read ([`SecretFile`]). No Rust
//! `Vec` or `String` ever contains them. Therefore the allocator that libcrypto uses decides where keys are stored, and
//! [`start`], which runs before any other function, is the place to set it.

mod decrypt;
mod fault;
mod key;
mod load;
mod object;
mod pem;
mod point;
mod secret;
mod ticket;

pub(crate) use fault::KeyFault;
pub(crate) use key::PrivateKey;
pub(crate) use object::CryptoError;
pub(crate) use pem::certificates;
pub(crate) use point::is_on_curve;
pub(crate) use secret::{ReadFault, SecretFile};
pub(crate) use ticket::TicketRoot;

use openssl_sys as ffi;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

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

/// `<openssl/crypto.h>`: openssl.cnf is not read, and therefore OPENSSL_CONF has no effect.
const OPENSSL_INIT_NO_LOAD_CONFIG: u64 = 0x80;

/// Starts libcrypto without a configuration file. Must be the first call of the process: libcrypto must not have
/// allocated memory before it.
///
/// # Errors
/// [`CryptoError`] if libcrypto does not start.
pub(crate) fn start() -> Result<(), CryptoError> {
    // SAFETY: the options need no settings, and a null pointer stands for no settings.
    match unsafe { OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, ptr::null()) } {
        1 => Ok(()),
        _ => Err(CryptoError::last()),
    }
}

/// Returns the SHA-256 of public bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Result<[u8; 32], CryptoError> {
    let mut digest = [0; 32];
    // SAFETY: SHA-256 writes 32 bytes, which is the size of the buffer; the input is a live slice.
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
