//! Verification with TLSA records (RFC 6698, RFC 7671) that a client supplies.

use crate::names::Host;
use crate::{ffi::safe_ffi, verify::peer_keys};
use luassl_protocol::{Dane, DaneSpec, ErrorCode, Failure, TlsaRecord};
use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslRef};
use std::ffi::CString;

/// Prepares a context.
pub(crate) fn allow(context: &mut SslContextBuilder, spec: DaneSpec) -> Result<(), ErrorStack> {
    safe_ffi::context_enable_dane(context, spec.no_ee_namechecks)
}

/// Makes a client's session verify with the records.
///
/// # Errors
/// `Invalid` for a host that is not a name, and for a context that was not made for TLSA records.
pub(crate) fn expect(ssl: &mut SslRef, dane: &Dane) -> Result<(), Failure> {
    let invalid = |message: String| Failure::new(ErrorCode::Invalid, message);
    let name = match Host::parse(&dane.host) {
        Ok(Host::Name(name)) => name,
        _ => return Err(invalid(format!("dane: {:?} is no host name", dane.host))),
    };
    let host = CString::new(name).map_err(|error| invalid(format!("dane: {error}")))?;
    safe_ffi::without_error_queue(|| safe_ffi::session_enable_dane(ssl, &host))
        .map_err(|_| invalid("the context was made without dane".into()))?;
    // Records that cannot be used are ignored (RFC 6698, 4.1). So is a key that would take long to parse.
    for TlsaRecord { usage, selector, matching, data } in &dane.records {
        let scanned = match (selector, matching) {
            (0, 0) => peer_keys::check_certificate(data),
            (1, 0) => peer_keys::check_key(data),
            _ => Ok(()),
        };
        if scanned.is_err() {
            continue;
        }
        safe_ffi::without_error_queue(|| safe_ffi::add_tlsa(ssl, (*usage, *selector, *matching), data));
    }
    Ok(())
}
