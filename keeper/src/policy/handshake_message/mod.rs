//! The messages that the keeper signs: only handshake messages of TLS 1.2 and 1.3.
//!
//! libssl passes the whole message to be signed, so a compromised front cannot have a token, a certificate or a request
//! signed with the key of an identity: a TLS peer signs no message of that form. This module parses the message. It has
//! no access to keys, does no I/O and holds no state.
//!
//! - TLS 1.3 (RFC 8446, 4.4.3): 64 spaces, the context string of the role, a zero byte, the transcript's hash.
//! - TLS 1.2, client (RFC 5246, 7.4.8): every handshake message from ClientHello to ClientKeyExchange, in order, to
//!   the last byte. In a renegotiation, too: HelloRequest is not part of the transcript (7.4.1.1).
//! - TLS 1.2, server (RFC 5246, 7.4.3; RFC 8422, 5.4): both randoms, then the parameters of ECDHE on a named curve or
//!   of DHE, to the last byte.
//!
//! The first bytes decide which of the three a message can be, so no message can be parsed in two ways. A message that
//! begins with 64 spaces can only be TLS 1.3. A message that begins with a ClientHello (of TLS, of DTLS, or in SSLv2's
//! format) can only be a transcript. Only the other messages can be key exchange parameters. The parameters of TLS 1.2
//! follow 64 bytes that the front chooses, and nothing marks them as TLS; `foreign` refuses messages that other
//! protocols sign, because no handshake has that form.

mod foreign;

use crate::policy::wire::{Cut, Fields};
use foreign::RANDOMS;
use luassl_keeper_ipc::front::{MESSAGE_MAX, TRANSCRIPT_MAX};

/// A message that a TLS peer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeMessage<'a> {
    /// CertificateVerify of a TLS 1.3 server.
    Server13,
    /// CertificateVerify of a TLS 1.3 client.
    Client13,
    /// ServerKeyExchange of TLS 1.2 with ECDHE. The caller checks whether the point is on its curve.
    Ecdhe12 {
        /// The named curve (RFC 8422, 5.1.1).
        curve: u16,
        /// The encoded point.
        point: &'a [u8],
    },
    /// ServerKeyExchange of TLS 1.2 with DHE.
    Dhe12,
    /// CertificateVerify of a TLS 1.2 client.
    Client12 {
        /// The certificate (DER) that the client sent as its own.
        leaf: &'a [u8],
    },
}

impl HandshakeMessage<'_> {
    /// Returns the name of the message in the audit log.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Server13 => "tls13-server",
            Self::Client13 => "tls13-client",
            Self::Ecdhe12 { .. } => "tls12-server",
            Self::Dhe12 => "tls12-server-dhe",
            Self::Client12 { .. } => "tls12-client",
        }
    }
}

/// The reason why a message is not a handshake message that a TLS peer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum NotAHandshakeMessage {
    /// The message is longer than any message that is signed.
    #[error("longer than any message that a handshake signs")]
    TooLong,
    /// The message starts as in TLS 1.3, but has no known context.
    #[error("a TLS 1.3 message with an unknown context")]
    Context,
    /// The hash has neither 32 nor 48 bytes.
    #[error("a TLS 1.3 message without a transcript hash of 32 or 48 bytes")]
    Hash,
    /// The message is neither randoms with key exchange parameters nor a transcript.
    #[error("neither key exchange parameters nor a transcript")]
    Unknown,
    /// The key exchange parameters follow bytes that another protocol signs.
    #[error("{0} that can also be parsed as key exchange parameters")]
    Foreign(&'static str),
    /// A handshake message is incomplete, or the messages are not those of a TLS 1.2 client.
    #[error("a transcript that is not that of a TLS 1.2 client")]
    Transcript,
    /// The Certificate message has no certificate, or its lengths do not add up.
    #[error("a transcript without a well-formed client certificate")]
    Certificate,
}

/// The context strings of RFC 8446, 4.4.3.
const CONTEXT_13: [(&[u8], HandshakeMessage<'static>); 2] = [
    (b"TLS 1.3, server CertificateVerify\0", HandshakeMessage::Server13),
    (b"TLS 1.3, client CertificateVerify\0", HandshakeMessage::Client13),
];

/// The named curves that TLS 1.2 can use, with the length of an uncompressed point: P-256, P-384, P-521, the three
/// Brainpool curves of RFC 7027, X25519, X448. Only TLS 1.3 has the hybrid groups.
const CURVES: [(u16, u8); 8] =
    [(23, 65), (24, 97), (25, 133), (26, 65), (27, 97), (28, 129), (29, 32), (30, 56)];

/// The bytes of a DH prime: 2048 to 8192 bits, which is the range that the front accepts from programs.
const DH_PRIME: std::ops::RangeInclusive<usize> = 256..=1024;

impl<'a> HandshakeMessage<'a> {
    /// Parses a message.
    ///
    /// # Errors
    /// [`NotAHandshakeMessage`] for every message that a TLS peer does not sign.
    pub fn of(message: &'a [u8]) -> Result<Self, NotAHandshakeMessage> {
        if let Some(rest) = message.strip_prefix(&[b' '; RANDOMS]) {
            return certificate_verify_13(rest);
        }
        if begins_with_hello(message) {
            return client_transcript(message).map(|leaf| Self::Client12 { leaf });
        }
        key_exchange_12(message)
    }
}

/// Returns whether `leaf`, from a transcript, belongs to this identity. If the identity has certificates, `leaf` must
/// be one of them. Otherwise `leaf` must contain the public key of the identity (DER SubjectPublicKeyInfo).
#[must_use]
pub fn is_own_leaf<'a>(leaf: &[u8], own: impl IntoIterator<Item = &'a [u8]>, public_key: &[u8]) -> bool {
    let mut own = own.into_iter().peekable();
    if own.peek().is_some() {
        return own.any(|certificate| certificate == leaf);
    }
    !public_key.is_empty() && leaf.windows(public_key.len()).any(|part| part == public_key)
}

fn certificate_verify_13(rest: &[u8]) -> Result<HandshakeMessage<'static>, NotAHandshakeMessage> {
    let (hash, message) = CONTEXT_13
        .into_iter()
        .find_map(|(context, message)| Some((rest.strip_prefix(context)?, message)))
        .ok_or(NotAHandshakeMessage::Context)?;
    if matches!(hash.len(), 32 | 48) { Ok(message) } else { Err(NotAHandshakeMessage::Hash) }
}

/// Returns whether a message begins with a ClientHello of any version: a handshake header of TLS or DTLS whose length
/// ends within the message, or a hello in SSLv2's format (RFC 5246, E.2: type, version, three lengths). The function
/// checks nothing else, because a server also negotiates TLS 1.2 with hellos that are not well-formed.
///
/// One random in 2^20 (DHE) to 2^25 (ECDHE) begins in this way. Such a handshake fails, and the peer tries again.
fn begins_with_hello(message: &[u8]) -> bool {
    let mut fields = Fields::new(message);
    let of_tls = handshake(&mut fields).is_ok_and(|(kind, _)| kind == CLIENT_HELLO);
    of_tls || begins_with_hello_of_ssl2(message).is_ok()
}

fn begins_with_hello_of_ssl2(message: &[u8]) -> Result<(), Cut> {
    let mut fields = Fields::new(message);
    Cut::ensure(fields.take(2)? == [CLIENT_HELLO, 3])?;
    fields.u8()?;
    for length in [fields.u16()?, fields.u16()?, fields.u16()?] {
        fields.take(usize::from(length))?;
    }
    Ok(())
}

fn key_exchange_12(message: &[u8]) -> Result<HandshakeMessage<'_>, NotAHandshakeMessage> {
    if message.len() > MESSAGE_MAX {
        return Err(NotAHandshakeMessage::TooLong);
    }
    let parameters = message.get(RANDOMS..).ok_or(NotAHandshakeMessage::Unknown)?;
    // The parameters of ffdhe6144 also begin with the byte of a named curve.
    let parsed = ecdhe_parameters(parameters)
        .or_else(|Cut| dhe_parameters(parameters).map(|()| HandshakeMessage::Dhe12))
        .map_err(|Cut| NotAHandshakeMessage::Unknown)?;
    foreign::name(message).map_or(Ok(parsed), |name| Err(NotAHandshakeMessage::Foreign(name)))
}

/// Parses ServerECDHParams (RFC 8422, 5.4): curve_type named_curve, the curve, an uncompressed point.
fn ecdhe_parameters(bytes: &[u8]) -> Result<HandshakeMessage<'_>, Cut> {
    let mut fields = Fields::new(bytes);
    let named = fields.u8()? == 3;
    let curve = fields.u16()?;
    let length = fields.u8()?;
    let point = fields.take(usize::from(length))?;
    let montgomery = matches!(curve, 29 | 30);
    let uncompressed = montgomery || point.first() == Some(&4);
    Cut::ensure(named && CURVES.contains(&(curve, length)) && uncompressed && fields.is_empty())?;
    Ok(HandshakeMessage::Ecdhe12 { curve, point })
}

/// Parses ServerDHParams (RFC 5246, 7.4.3): p, g and Ys, each after its length.
fn dhe_parameters(bytes: &[u8]) -> Result<(), Cut> {
    let mut fields = Fields::new(bytes);
    let [prime, generator, public] = [fields.vector_u16()?, fields.vector_u16()?, fields.vector_u16()?];
    let odd = prime.last().is_some_and(|byte| byte & 1 == 1);
    let whole = prime.first().is_some_and(|byte| *byte != 0);
    let below = |number: &[u8]| (1..=prime.len()).contains(&number.len());
    Cut::ensure(
        DH_PRIME.contains(&prime.len())
            && odd
            && whole
            && below(generator)
            && below(public)
            && fields.is_empty(),
    )
}

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const CERTIFICATE_STATUS: u8 = 22;

/// The messages of a full handshake with a certificate request, up to CertificateVerify. The marked messages may be
/// missing (RFC 5246, 7.3; RFC 6066, 8).
const FLIGHTS: [(u8, bool); 9] = [
    (CLIENT_HELLO, true),
    (SERVER_HELLO, true),
    (CERTIFICATE, true),
    (CERTIFICATE_STATUS, false),
    (SERVER_KEY_EXCHANGE, false),
    (CERTIFICATE_REQUEST, true),
    (SERVER_HELLO_DONE, true),
    (CERTIFICATE, true),
    (CLIENT_KEY_EXCHANGE, true),
];

/// Returns the client's own certificate from a transcript that begins with its ClientHello.
fn client_transcript(message: &[u8]) -> Result<&[u8], NotAHandshakeMessage> {
    if message.len() > TRANSCRIPT_MAX {
        return Err(NotAHandshakeMessage::TooLong);
    }
    let mut fields = Fields::new(message);
    let (_, hello) = handshake(&mut fields).map_err(|Cut| NotAHandshakeMessage::Transcript)?;
    if !is_hello_12(hello) {
        return Err(NotAHandshakeMessage::Transcript);
    }
    let certificate = flights_after_hello(fields).map_err(|Cut| NotAHandshakeMessage::Transcript)?;
    leaf(certificate).map_err(|Cut| NotAHandshakeMessage::Certificate)
}

/// Returns the body of the client's Certificate message.
fn flights_after_hello(mut fields: Fields<'_>) -> Result<&[u8], Cut> {
    let mut next = handshake(&mut fields)?;
    let mut certificate: &[u8] = &[];
    for (kind, required) in FLIGHTS.into_iter().skip(1) {
        if next.0 != kind {
            Cut::ensure(!required)?;
            continue;
        }
        Cut::ensure(is_body(kind, next.1))?;
        if kind == CERTIFICATE {
            if certificate.is_empty() {
                // This is the server's certificate. The caller checks the client's.
                leaf(next.1)?;
            }
            certificate = next.1;
        }
        if kind != CLIENT_KEY_EXCHANGE {
            next = handshake(&mut fields)?;
        }
    }
    Cut::ensure(fields.is_empty())?;
    Ok(certificate)
}

fn is_body(kind: u8, body: &[u8]) -> bool {
    match kind {
        SERVER_HELLO => is_hello_12(body),
        SERVER_HELLO_DONE => body.is_empty(),
        CERTIFICATE_STATUS => is_status(body),
        _ => !body.is_empty(),
    }
}

/// Returns whether `body` begins as ClientHello and ServerHello do: version 3.3, then the random and the length of a
/// session id.
fn is_hello_12(body: &[u8]) -> bool {
    body.len() > 2 + 32 + 1 && body.starts_with(&[3, 3])
}

/// Returns whether `body` is a CertificateStatus (RFC 6066, 8): a type, and a response after its length.
fn is_status(body: &[u8]) -> bool {
    let mut fields = Fields::new(body);
    let response = fields.u8().and_then(|_| fields.vector_u24());
    response.is_ok_and(|response| !response.is_empty()) && fields.is_empty()
}

/// Returns the first certificate of a Certificate message (RFC 5246, 7.4.2) if the lengths of the list add up.
fn leaf(body: &[u8]) -> Result<&[u8], Cut> {
    let mut fields = Fields::new(body);
    let mut list = Fields::new(fields.vector_u24()?);
    Cut::ensure(fields.is_empty())?;
    let leaf = list.vector_u24()?;
    while !list.is_empty() {
        list.vector_u24()?;
    }
    Cut::ensure(!leaf.is_empty())?;
    Ok(leaf)
}

/// Returns a handshake message: its type, and its body after a 24-bit length.
fn handshake<'a>(fields: &mut Fields<'a>) -> Result<(u8, &'a [u8]), Cut> {
    Ok((fields.u8()?, fields.vector_u24()?))
}
