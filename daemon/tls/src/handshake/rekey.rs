//! New keys and new credentials on an established session. Each function only prepares the change. The caller then
//! drives the session (a handshake call, or the next read or write).

use crate::{ffi::safe_ffi, handshake::peer_bounds};
use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslVerifyMode, SslVersion};

/// A session to which the caller has exclusive access, although streams provide only a shared reference.
#[derive(Debug)]
pub struct Exclusive<'a>(&'a SslRef);

impl<'a> Exclusive<'a> {
    /// Returns the session of a stream. The exclusive borrow of the stream guarantees exclusive access.
    pub fn of<S>(stream: &'a mut S, session: impl FnOnce(&'a S) -> &'a SslRef) -> Self {
        Self(session(stream))
    }
}

/// The change that [`renegotiate`] has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// TLS 1.2: a new handshake. A server requests it with a message, and a client starts it with the next read.
    Handshake,
    /// TLS 1.3: a key update in both directions, which is one message (RFC 8446, 4.6.3).
    KeyUpdate,
}

/// Prepares the change that the protocol version offers: a renegotiation in TLS 1.2, a key update in TLS 1.3.
///
/// # Errors
/// `Tls` if a handshake is in progress, or if renegotiation is off.
pub fn renegotiate(session: Exclusive<'_>) -> Result<Renewal, Failure> {
    let ssl = session.0;
    if ssl.version2() == Some(SslVersion::TLS1_3) {
        peer_bounds::renegotiates_itself(ssl);
        safe_ffi::key_update(ssl).map_err(|error| failure("update its keys", &error))?;
        Ok(Renewal::KeyUpdate)
    } else {
        peer_bounds::renegotiate(ssl).map_err(|error| failure("renegotiate", &error))?;
        Ok(Renewal::Handshake)
    }
}

/// Prepares a server's request for the client's certificate after the handshake (RFC 8446, 4.6.2), if the server
/// requests certificates and the client offered it. Returns `false` if there is nothing to request.
#[must_use]
pub fn request_client_certificate(session: Exclusive<'_>) -> bool {
    let ssl = session.0;
    ssl.is_server()
        && ssl.version2() == Some(SslVersion::TLS1_3)
        && ssl.verify_mode().contains(SslVerifyMode::PEER)
        && safe_ffi::without_error_queue(|| safe_ffi::request_client_certificate(ssl).is_ok())
}

/// Returns whether a renegotiation has been prepared and not finished.
#[must_use]
pub fn renegotiation_is_pending(ssl: &SslRef) -> bool {
    safe_ffi::renegotiation_is_pending(ssl)
}

/// Returns the peer's last Finished message. Each handshake, and each authentication after it, has a different one.
#[must_use]
pub fn peer_finished(ssl: &SslRef) -> Vec<u8> {
    let mut finished = vec![0; 64];
    let length = ssl.peer_finished(&mut finished);
    finished.truncate(length);
    finished
}

/// Returns whether the peer's close_notify has arrived.
#[must_use]
pub fn peer_has_closed(ssl: &SslRef) -> bool {
    safe_ffi::has_received_shutdown(ssl)
}

fn failure(what: &str, error: &ErrorStack) -> Failure {
    let reason = error.errors().first().and_then(|error| error.reason()).unwrap_or("not possible now");
    Failure::new(ErrorCode::Tls, format!("the session cannot {what}: {reason}"))
}
