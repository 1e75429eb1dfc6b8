//! TLS of the front: contexts and sessions of OpenSSL whose private keys lie in the keeper.
//!
//! Nothing here does I/O or reads a private key. Unsafe code lives in `ffi` and `provider` alone.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod ffi;
#[allow(unsafe_code)]
mod provider;
#[cfg(test)]
mod tests;

use crate::identity::SharedSigner;
use openssl::error::ErrorStack;

/// Why TLS could not be set up in this process.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// [`install`] was called a second time.
    #[error("the provider for keys of the keeper is already installed")]
    Installed,
    /// OpenSSL refused.
    #[error("openssl could not be set up: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// Prepares OpenSSL for this process: no openssl.cnf, and a provider through which every key of the keeper signs by
/// `signer`. Must be called once, before anything else touches OpenSSL.
///
/// # Errors
/// [`TlsError`] when it was called before, or when OpenSSL is not usable.
pub fn install(signer: SharedSigner) -> Result<(), TlsError> {
    provider::install(signer)
}
#[allow(unsafe_code)]
mod stub;
pub use stub::*;
