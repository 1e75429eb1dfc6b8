//! TLS of the front: contexts and sessions of OpenSSL whose private keys lie in the keeper.
//!
//! Nothing here does I/O or reads a private key. Unsafe code lives in `ffi`, `memory`, `message_ffi`, `psk_ffi`, `safe_ffi`, `resumption_ffi`
//! and `provider`.
#![deny(unsafe_code)]

#[cfg(all(feature = "kit", not(debug_assertions)))]
compile_error!("signers with keys in memory are for tests alone");

mod build;
mod capabilities;
mod certificate;
pub mod chain;
mod ciphers;
mod client_supplied;
mod context;
mod credentials;
mod dane;
mod error;
mod failure;
#[allow(unsafe_code)]
mod ffi;
mod hello;
pub mod identity;
mod key_log;
#[cfg(any(test, feature = "kit"))]
pub mod kit;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod message_ffi;
mod names;
mod negotiated;
mod options;
mod peer;
mod peer_bounds;
pub mod peer_keys;
mod pem;
mod plan;
#[allow(unsafe_code)]
mod provider;
mod psk;
#[allow(unsafe_code)]
mod psk_ffi;
mod rekey;
mod resumption;
mod resumption_cache;
#[allow(unsafe_code)]
mod resumption_ffi;
mod resumption_scope;
#[allow(unsafe_code)]
mod safe_ffi;
mod select;
mod session;
mod session_report;
mod signing_guard;
mod source;
mod staple;
mod store;
mod summary;
#[cfg(test)]
mod tests;
mod tickets;
mod trust;
mod verify;
mod versions;

pub use capabilities::capabilities;
pub use certificate::{check_issued, read_certificate};
pub use client_supplied::check_sizes;
pub use context::Context;
pub use error::TlsError;
pub use failure::{failure, failure_of_io, failure_of_stack, is_alert, is_nothing_in_common, reason};
pub use hello::{Decision, decide, take_hello};
pub use memory::{peak_of, trim, wipe_what_is_freed};
pub use negotiated::{Negotiated, negotiated};
pub use peer::{peer_certificate, peer_matches};
pub use peer_bounds::{excess, hello_has_come};
pub use psk::{AskForKey, ask_for_keys_by};
pub use rekey::{
    Exclusive, Renewal, peer_finished, peer_has_closed, renegotiate, renegotiation_is_pending,
    request_client_certificate,
};
pub use resumption::Resumption;
pub use safe_ffi::without_error_queue;
pub use session::read_ahead;
pub use session_report::session_report;
pub use signing_guard::{may_sign, signing_is_allowed};
pub use source::{Charge, ContextSource, Floors, Ledger};
pub use summary::summary;
pub use tickets::TicketKeys;
pub use trust::TrustStores;

use crate::identity::SharedSigner;

/// Prepares OpenSSL for this process: no openssl.cnf, and a provider for keys of the keeper. Must be called before
/// anything else touches OpenSSL.
///
/// # Errors
/// [`TlsError::OpenSsl`] when OpenSSL is not usable.
pub fn prepare() -> Result<(), TlsError> {
    Ok(provider::prepare()?)
}

/// As [`prepare`], for a process that parses certificates and makes no session.
///
/// # Errors
/// [`TlsError::OpenSsl`] when OpenSSL is not usable.
pub fn prepare_to_parse() -> Result<(), TlsError> {
    Ok(provider::initialise()?)
}

/// Has every key of the keeper sign by `signer`; does what [`prepare`] does, where nobody has. Must be called once.
///
/// # Errors
/// [`TlsError`] when it was called before, or when OpenSSL is not usable.
pub fn install(signer: SharedSigner) -> Result<(), TlsError> {
    provider::install(signer)
}
