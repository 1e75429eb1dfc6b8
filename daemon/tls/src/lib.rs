//! TLS of the front: OpenSSL contexts and sessions whose private keys are in the keeper.
//!
//! This crate does no I/O and reads no private key. Unsafe code is only in `ffi` and `provider`.
#![deny(unsafe_code)]

#[cfg(all(feature = "kit", not(debug_assertions)))]
compile_error!("signers with keys in memory are for tests alone");

mod context;
mod error;
#[allow(unsafe_code)]
mod ffi;
mod handshake;
pub mod identity;
#[cfg(any(test, feature = "kit"))]
pub mod kit;
mod names;
#[allow(unsafe_code)]
mod provider;
mod report;
mod resumption;
#[cfg(test)]
mod tests;
mod verify;

pub use context::Context;
pub use context::session::read_ahead;
pub use context::source::{Charge, ContextSource, Floors, Ledger};
pub use error::TlsError;
pub use ffi::memory::{peak_of, trim, wipe_what_is_freed};
pub use ffi::safe_ffi::without_error_queue;
pub use ffi::signing_guard::{may_sign, signing_is_allowed};
pub use handshake::failure::{failure, failure_of_io, failure_of_stack, reason};
pub use handshake::hello::{Decision, decide, take_hello};
pub use handshake::negotiated::{Negotiated, negotiated};
pub use handshake::peer_bounds::{excess, hello_has_come};
pub use handshake::psk::{AskForKey, ask_for_keys_by};
pub use handshake::rekey::{
    Exclusive, Renewal, peer_finished, peer_has_closed, renegotiate, renegotiation_is_pending,
    request_client_certificate,
};
pub use report::capabilities::capabilities;
pub use report::peer::{peer_certificate, peer_matches};
pub use report::session_report::session_report;
pub use report::summary::summary;
pub use resumption::Resumption;
pub use resumption::tickets::TicketKeys;
pub use verify::certificate::{check_issued, read_certificate};
pub use verify::client_supplied::check_sizes;
pub use verify::trust::TrustStores;
pub use verify::{chain, peer_keys};

use crate::identity::SharedSigner;

/// Prepares OpenSSL for this process: without openssl.cnf, and with a provider for keys of the keeper. Must be called
/// before any other use of OpenSSL.
///
/// # Errors
/// [`TlsError::OpenSsl`] if OpenSSL is not usable.
pub fn prepare() -> Result<(), TlsError> {
    Ok(provider::prepare()?)
}

/// Does the same as [`prepare`], for a process that parses certificates and creates no session.
///
/// # Errors
/// [`TlsError::OpenSsl`] if OpenSSL is not usable.
pub fn prepare_to_parse() -> Result<(), TlsError> {
    Ok(provider::initialise()?)
}

/// Sets `signer` as the signer for every key of the keeper. Calls [`prepare`] if it was not called before. Must be
/// called once.
///
/// # Errors
/// [`TlsError`] if it was called before, or if OpenSSL is not usable.
pub fn install(signer: SharedSigner) -> Result<(), TlsError> {
    provider::install(signer)
}
