//! Maps OpenSSL's errors to a code for programs and a message for people.

use crate::provider::{REASON_REFUSED, REASON_UNAVAILABLE};
use crate::verify::{Fault, remembered};
use crate::{
    ffi::{self, safe_ffi},
    handshake::peer_bounds,
};
use luassl_protocol::{ErrorCode, Failure, FailureReason};
use openssl::error::{Error, ErrorStack};
use openssl::ssl::{self, NameType, SslRef};
use openssl::x509::X509VerifyResult;
use std::io;

/// Returns the reason why a session failed, from the error of the call that failed.
#[must_use]
pub fn failure(error: &ssl::Error, ssl: &SslRef) -> Failure {
    if let Some(excess) = peer_bounds::excess(ssl) {
        return excess;
    }
    if error.code() == ssl::ErrorCode::ZERO_RETURN {
        return Failure::new(ErrorCode::Closed, "the peer closed the connection");
    }
    if let Some(error) = error.io_error() {
        return transport(error, ssl);
    }
    match error.ssl_error() {
        Some(stack) if !stack.errors().is_empty() => failure_of_stack(stack, ssl),
        _ if error.code() == ssl::ErrorCode::SYSCALL => cut(ssl),
        _ => Failure::new(ErrorCode::Tls, format!("tls failed: {error}")),
    }
}

/// Does the same as [`failure`], for a read or write error of tokio-openssl, which may be an error of the transport.
#[must_use]
pub fn failure_of_io(error: &io::Error, ssl: &SslRef) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ssl::Error>()) {
        Some(inner) => failure(inner, ssl),
        None => transport(error, ssl),
    }
}

/// Does the same as [`failure`], for the errors in OpenSSL's error queue.
#[must_use]
pub fn failure_of_stack(stack: &ErrorStack, ssl: &SslRef) -> Failure {
    let errors = stack.errors();
    let known =
        errors.iter().find_map(keeper).or_else(|| errors.iter().find_map(|error| session(error, ssl)));
    known.unwrap_or_else(|| {
        let reason = errors.iter().find_map(Error::reason).unwrap_or("no reason given");
        Failure::new(ErrorCode::Tls, format!("tls failed: {reason}"))
    })
}

/// Returns OpenSSL's reason why a session failed, or the system's. `None` if the connection was only closed.
#[must_use]
pub fn reason(error: &ssl::Error) -> Option<String> {
    if let Some(error) = error.io_error() {
        let ended = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted);
        let text = error.to_string();
        return (!ended).then(|| text.split(" (os error").next().unwrap_or_default().to_owned());
    }
    let stack = error.ssl_error()?;
    stack.errors().first()?.reason().map(str::to_owned)
}

fn transport(error: &io::Error, ssl: &SslRef) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::new(ErrorCode::Timeout, "the connection timed out"),
        io::ErrorKind::UnexpectedEof => cut(ssl),
        _ => Failure::new(ErrorCode::Cut, format!("the connection was cut: {error}")),
    }
}

fn cut(ssl: &SslRef) -> Failure {
    let message = if ssl.is_init_finished() {
        "the connection was cut: it ended without a close_notify"
    } else {
        "the peer closed the connection in the middle of the handshake"
    };
    Failure::new(ErrorCode::Cut, message)
}

/// Returns the failure for an error that the provider raised.
fn keeper(error: &Error) -> Option<Failure> {
    if error.library_code() != ffi::ERR_LIB_USER {
        return None;
    }
    match error.reason_code() {
        REASON_UNAVAILABLE => {
            let message = "the keeper cannot be reached, so that nothing can be signed";
            Some(Failure::new(ErrorCode::Unavailable, message))
        }
        REASON_REFUSED => {
            let reason = error.data().unwrap_or("no reason given");
            Some(Failure::new(ErrorCode::Refused, format!("the keeper refused to sign: {reason}")))
        }
        _ => None,
    }
}

const ERR_LIB_SSL: i32 = 20;
/// FailureReason codes of libssl above this value are alerts that the peer sent.
const ALERT_OFFSET: i32 = 1000;

/// FailureReason codes of libssl with a message of their own (`sslerr.h`; the numbers are part of OpenSSL's API).
mod reason {
    pub(crate) const NO_SUITABLE_KEY_SHARE: i32 = 101;
    pub(crate) const NO_SUITABLE_SIGNATURE_ALGORITHM: i32 = 118;
    pub(crate) const CERTIFICATE_VERIFY_FAILED: i32 = 134;
    pub(crate) const EXCESSIVE_MESSAGE_SIZE: i32 = 152;
    pub(crate) const HTTPS_PROXY_REQUEST: i32 = 155;
    pub(crate) const HTTP_REQUEST: i32 = 156;
    pub(crate) const NO_PROTOCOLS_AVAILABLE: i32 = 191;
    pub(crate) const NO_SHARED_CIPHER: i32 = 193;
    pub(crate) const PEER_DID_NOT_RETURN_A_CERTIFICATE: i32 = 199;
    pub(crate) const CALLBACK_FAILED: i32 = 234;
    pub(crate) const NO_APPLICATION_PROTOCOL: i32 = 235;
    pub(crate) const UNKNOWN_PROTOCOL: i32 = 252;
    pub(crate) const UNSUPPORTED_PROTOCOL: i32 = 258;
    pub(crate) const WRONG_SSL_VERSION: i32 = 266;
    pub(crate) const WRONG_VERSION_NUMBER: i32 = 267;
    pub(crate) const DECRYPTION_FAILED_OR_BAD_RECORD_MAC: i32 = 281;
    pub(crate) const UNEXPECTED_EOF_WHILE_READING: i32 = 294;
    pub(crate) const NO_SUITABLE_GROUPS: i32 = 295;
    pub(crate) const UNSAFE_LEGACY_RENEGOTIATION_DISABLED: i32 = 338;
    pub(crate) const NO_RENEGOTIATION: i32 = 339;
    pub(crate) const NO_SHARED_SIGNATURE_ALGORITHMS: i32 = 376;
    pub(crate) const DH_KEY_TOO_SMALL: i32 = 394;
    pub(crate) const VERSION_TOO_LOW: i32 = 396;
    pub(crate) const NO_SHARED_GROUPS: i32 = 410;
}

fn session(error: &Error, ssl: &SslRef) -> Option<Failure> {
    if error.library_code() != ERR_LIB_SSL {
        return None;
    }
    let code = error.reason_code();
    if code > ALERT_OFFSET {
        return Some(alert(code - ALERT_OFFSET));
    }
    if let Some(message) = nothing_in_common(code) {
        return Some(Failure::new(ErrorCode::Tls, message).because(FailureReason::NothingInCommon));
    }
    let message = match code {
        reason::CERTIFICATE_VERIFY_FAILED => return Some(verification(ssl)),
        reason::PEER_DID_NOT_RETURN_A_CERTIFICATE => {
            let message = "the client sent no certificate, and one is required";
            return Some(Failure::new(ErrorCode::Verification, message));
        }
        reason::UNEXPECTED_EOF_WHILE_READING => return Some(cut(ssl)),
        reason::CALLBACK_FAILED => return Some(unknown_name(ssl)),
        reason::HTTP_REQUEST | reason::HTTPS_PROXY_REQUEST => "the peer speaks HTTP to a TLS port",
        reason::WRONG_VERSION_NUMBER | reason::UNKNOWN_PROTOCOL => {
            "the peer does not speak TLS; perhaps another protocol is spoken on this port"
        }
        reason::EXCESSIVE_MESSAGE_SIZE => {
            "the peer sends a handshake message that is too long; of certificates no more than 64 KiB are read"
        }
        reason::DECRYPTION_FAILED_OR_BAD_RECORD_MAC => "a record from the peer was damaged on its way",
        reason::UNSAFE_LEGACY_RENEGOTIATION_DISABLED => {
            "the peer lacks secure renegotiation (RFC 5746); OP_LEGACY_SERVER_CONNECT lets it through"
        }
        reason::NO_RENEGOTIATION => "the peer refuses to renegotiate",
        reason::DH_KEY_TOO_SMALL => "the Diffie-Hellman parameters are too small",
        _ => return None,
    };
    Some(Failure::new(ErrorCode::Tls, message))
}

/// Returns what both sides do not have in common, for such a reason of libssl.
fn nothing_in_common(code: i32) -> Option<&'static str> {
    Some(match code {
        reason::NO_SHARED_CIPHER => "no cipher in common with the peer",
        reason::NO_PROTOCOLS_AVAILABLE
        | reason::UNSUPPORTED_PROTOCOL
        | reason::WRONG_SSL_VERSION
        | reason::VERSION_TOO_LOW => "no protocol version in common with the peer",
        reason::NO_SUITABLE_SIGNATURE_ALGORITHM | reason::NO_SHARED_SIGNATURE_ALGORITHMS => {
            "no signature algorithm in common with the peer that fits the key"
        }
        reason::NO_SUITABLE_GROUPS | reason::NO_SUITABLE_KEY_SHARE | reason::NO_SHARED_GROUPS => {
            "no group for the key exchange in common with the peer"
        }
        reason::NO_APPLICATION_PROTOCOL => "no application protocol (alpn) in common with the peer",
        _ => return None,
    })
}

/// Returns the failure for an alert that the peer sent.
fn alert(number: i32) -> Failure {
    let hint = match number {
        40 => "; perhaps no cipher, group or signature algorithm in common",
        42..=46 => "; it does not accept the certificate that was sent",
        48 => "; it does not trust the issuer of the certificate that was sent",
        70 => "; no protocol version in common",
        100 => "; it refuses to renegotiate",
        112 => "; it has no certificate for the server name that was asked for",
        116 => "; it requires a certificate, and none was sent",
        120 => "; no application protocol (alpn) in common",
        _ => "",
    };
    let message = format!("the peer sent the alert {} ({number}){hint}", alert_name(number));
    Failure::new(ErrorCode::Tls, message).because(FailureReason::Alert)
}

fn alert_name(number: i32) -> String {
    match number {
        // OpenSSL 3.0 has no text for these.
        116 => "certificate required".to_owned(),
        120 => "no application protocol".to_owned(),
        number => safe_ffi::alert_name(number),
    }
}

/// Returns the failure of a callback. The choice of an identity for a client's name is the only callback that can fail
/// a handshake.
fn unknown_name(ssl: &SslRef) -> Failure {
    let message = match ssl.servername_raw(NameType::HOST_NAME) {
        Some(name) => {
            format!("no identity answers to the server name {}", cut_short(&String::from_utf8_lossy(name)))
        }
        None => "the client asked for no server name, and there is no default identity".to_owned(),
    };
    Failure::new(ErrorCode::Tls, message)
}

/// The maximum length of text from a hostile certificate in a message.
const LONGEST: usize = 256;
const MOST_NAMES: usize = 8;

fn verification(ssl: &SslRef) -> Failure {
    let remembered = remembered(ssl);
    let host = remembered.and_then(|remembered| remembered.host.as_deref());
    let message = match remembered.and_then(|remembered| remembered.fault()) {
        Some(fault) => capabilities(&fault, host),
        None => format!("verification failed: {}", ssl.verify_result().error_string()),
    };
    Failure::new(ErrorCode::Verification, message)
}

fn capabilities(fault: &Fault, host: Option<&str>) -> String {
    const HOSTNAME_MISMATCH: i32 = 62;
    const ADDRESS_MISMATCH: i32 = 64;
    const NOT_YET_VALID: i32 = 9;
    const EXPIRED: i32 = 10;
    let code = fault.result.as_raw();
    if matches!(code, HOSTNAME_MISMATCH | ADDRESS_MISMATCH) {
        return mismatch(fault, host.unwrap_or("the expected host"));
    }
    let detail = match code {
        NOT_YET_VALID => format!(" (valid from {})", fault.validity.0),
        EXPIRED => format!(" (on {})", fault.validity.1),
        _ => String::new(),
    };
    let text = lower_first(fault.result.error_string());
    let (subject, issuer) = (cut_short(&fault.subject), cut_short(&fault.issuer));
    format!("verification failed: {text}{detail}: subject {subject}, issuer {issuer}{}", remedy(fault.result))
}

fn mismatch(fault: &Fault, host: &str) -> String {
    let names: Vec<_> = fault.names.iter().take(MOST_NAMES).map(|name| cut_short(name)).collect();
    let more = if fault.names.len() > MOST_NAMES { " and others" } else { "" };
    let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
    format!("verification failed: the certificate is for {names}{more}, and not for {}", cut_short(host))
}

fn remedy(result: X509VerifyResult) -> &'static str {
    match result.as_raw() {
        2 | 18 | 19 | 20 | 21 => "; the trust of the context lacks its issuer",
        3 => "; the trust has no CRL of this issuer",
        12 => "; the CRL in the trust has to be renewed",
        22 => "; a larger depth would allow it",
        _ => "",
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// Returns text from a peer in a form that is suitable for a message.
fn cut_short(text: &str) -> String {
    text.chars().take(LONGEST).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
