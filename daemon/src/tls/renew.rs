//! New keys and new credentials on an established session. Each call only prepares: the caller then drives the
//! session (a handshake call, or the next read or write) on a thread that may sign.

use super::raw;
use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslStream};

/// A stream with a session. Whoever has it mutably has the session for himself, although the stream shows it shared.
pub trait HasSession {
    /// The session.
    fn session(&self) -> &SslRef;
}

impl<S> HasSession for SslStream<S> {
    fn session(&self) -> &SslRef {
        self.ssl()
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite> HasSession for tokio_openssl::SslStream<S> {
    fn session(&self) -> &SslRef {
        self.ssl()
    }
}

/// Prepares a renegotiation; TLS 1.2 has it.
///
/// # Errors
/// `Tls` in TLS 1.3, and while a handshake is under way.
pub fn renegotiate(stream: &mut impl HasSession) -> Result<(), Failure> {
    raw::renegotiate(stream.session()).map_err(|error| failure("renegotiate", &error))
}

/// Prepares a key update in both directions; TLS 1.3 has it.
///
/// # Errors
/// `Tls` in TLS 1.2, and while a handshake is under way.
pub fn key_update(stream: &mut impl HasSession) -> Result<(), Failure> {
    raw::key_update(stream.session()).map_err(|error| failure("update its keys", &error))
}

/// Prepares a server's request for the client's certificate after the handshake (RFC 8446, 4.6.2).
///
/// # Errors
/// `Tls` where the client did not offer it, on a client, and in TLS 1.2.
pub fn request_client_certificate(stream: &mut impl HasSession) -> Result<(), Failure> {
    raw::request_client_certificate(stream.session())
        .map_err(|error| failure("ask for a certificate", &error))
}

fn failure(what: &str, error: &ErrorStack) -> Failure {
    let reason = error.errors().first().and_then(|error| error.reason()).unwrap_or("not possible now");
    Failure::new(ErrorCode::Tls, format!("the session cannot {what}: {reason}"))
}
