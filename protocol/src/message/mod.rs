//! Requests and answers on the control socket.
//!
//! A request is one flat map with `id`, `op` and the operation's fields; its answer is one flat map with the same
//! `id` and either the answer's fields or `error`.

pub(crate) mod certificate;
pub(crate) mod context;
pub(crate) mod dane;
pub(crate) mod lockstep;
pub(crate) mod material;
pub(crate) mod stream;

use crate::{
    CheckIssued, ContextSpec, Dane, DecodeError, Describe, Digest, Failure, ReadCertificate,
    bounds::is_false, from_body, holds_private_key, to_frame,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error, SeqAccess, Visitor},
};
use serde_bytes::{ByteArray, ByteBuf};
use std::fmt;
use zeroize::Zeroize;

/// The 128-bit name of a connection; valid only on control connections of its owner.
pub type Token = ByteArray<16>;

/// Features that [`Hello`] may name.
pub const MAX_FEATURES: usize = 64;
/// The length of a feature's name in [`Hello`], in bytes.
pub const MAX_FEATURE: usize = 64;

/// First request of a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::VERSION`] of the client.
    pub version: u32,
    /// Features that the client knows, at most [`MAX_FEATURES`]; unknown ones are ignored.
    #[serde(default, deserialize_with = "bounded_features")]
    pub features: Vec<String>,
    /// What the client is, for the log: `luassl 0.1.0 (Lua 5.4)`.
    #[serde(default)]
    pub client: String,
}

/// Answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both sides will use.
    pub version: u32,
    /// Features of this front, such as `stream` and `lock_step`.
    #[serde(default)]
    pub features: Vec<String>,
    /// What the daemon is: `luassld 0.1.0`.
    pub server: String,
    /// The OpenSSL that the front runs with.
    pub openssl: String,
    /// The largest frame body, in bytes, that the front reads.
    pub frame_limit: u64,
}

/// Public material that contexts refer to by digest. Bounded by the frame and by the owner's quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// PEM bytes.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// Answer to [`Blob`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobStored {
    /// SHA-256 of the data.
    pub digest: Digest,
}

/// Requests a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeContext {
    /// The description of the context.
    pub spec: ContextSpec,
    /// Whether the client recreates a context of an earlier control connection. If the chain that it supplied then no
    /// longer matches a renewed identity, the identity's own chain replaces it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
}

/// Answer to [`MakeContext`]: a context, or the blobs that have to be sent first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextMade {
    /// The context's number on this control connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Digests that the front does not have; send them as [`Blob`] and ask again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Digest>,
}

/// Names a context of this control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeContext {
    /// The number from [`ContextMade`].
    pub context: u64,
}

/// The side of the handshake that the front plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Accepts a handshake.
    Server,
    /// Begins a handshake.
    Client,
}

/// How plaintext moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The front pumps between TLS and the connection's socket.
    Stream,
    /// The front works on the TCP socket only when asked.
    LockStep,
}

/// Begins TLS on a connected TCP socket, which is passed as the request's descriptor. The answer
/// ([`Connecting`]) carries the connection's socket; the handshake's end follows on it as a framed
/// [`crate::HandshakeResult`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// The context's number.
    pub context: u64,
    /// The side to play.
    pub role: Role,
    /// How plaintext moves.
    pub mode: Mode,
    /// The name or address that the peer's certificate must carry (RFC 9525); left out: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The server name to send; left out: `host`, where that is a name and no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// A client's connection that is verified by TLSA records; its context has [`crate::ContextSpec::dane`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dane: Option<Dane>,
    /// A client in lock-step mode resumes an earlier session with the same server, if there is one. In stream mode the
    /// context decides.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resume: bool,
}

impl Connect {
    /// A request without the optional fields.
    #[must_use]
    pub fn new(context: u64, role: Role, mode: Mode) -> Self {
        Self { context, role, mode, host: None, sni: None, dane: None, resume: false }
    }
}

/// Answer to [`Connect`], with one descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connecting {
    /// The connection's token.
    pub token: Token,
}

/// Requests a delivery socket of a listener: a configured one, or a listening TCP socket passed as the request's
/// descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The context's number.
    pub context: u64,
    /// The configured listener; left out: the descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
}

/// Answer to [`Bind`], with one descriptor: the holder's delivery socket (SOCK_SEQPACKET).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The address that the listener is bound to, as `address:port`.
    pub address: String,
}

/// Names a connection; the request of `status`, `info`, `peer_certificate`, `renegotiate` and `close`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRef {
    /// The connection.
    pub token: Token,
}

/// The state of a connection on the peer's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// True until the peer's side has ended.
    pub open: bool,
    /// How the peer's side ended: `closed`, `cut`, `tls` and so on. None while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Failure>,
}

/// Information about an established connection; the answer to `info`, and part of a handshake's result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
    /// OpenSSL's name of the cipher suite.
    pub cipher: String,
    /// Strength of the cipher in bits.
    pub bits: u32,
    /// The group of the key exchange, if there was one and OpenSSL reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether a session was resumed.
    #[serde(skip_serializing_if = "is_false")]
    pub reused: bool,
    /// The application protocol that both sides agreed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// The server name that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// OpenSSL's number for the verification of the peer: 0 is good (X509_V_OK).
    pub verify_code: i32,
    /// The same as text; empty if the peer sent no certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verify_text: String,
    /// Whether the peer sent a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub peer_certificate: bool,
    /// The peer's address as `address:port`, `[address]:port` for IPv6, or empty.
    pub peer: String,
    /// The local address, likewise.
    pub local: String,
}

/// The peer's certificate, read by the front; the answer to `peer_certificate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerCertificate {
    /// The leaf and what the peer sent with it, DER, leaf first; empty when the peer sent none.
    pub chain: Vec<ByteBuf>,
    /// The leaf as PEM.
    pub pem: String,
    /// The subject as RFC 2253 text.
    pub subject: String,
    /// The issuer as RFC 2253 text.
    pub issuer: String,
    /// dNSName and iPAddress entries of the subject alternative name.
    pub names: Vec<String>,
    /// Start of validity, seconds since 1970.
    pub not_before: i64,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// SHA-1 of the DER in hexadecimal, lower case.
    pub sha1: String,
    /// SHA-256 of the DER in hexadecimal, lower case.
    pub sha256: String,
}

/// Checks whether the peer's certificate carries a name, for `accept(expected)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMatches {
    /// The connection.
    pub token: Token,
    /// A host name or an IP address.
    pub host: String,
}

/// Answer to [`PeerMatches`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// Whether it does.
    pub matches: bool,
}

/// Requests keying material (RFC 5705).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The connection.
    pub token: Token,
    /// The label, such as `EXPORTER-Channel-Binding`.
    pub label: String,
    /// How many bytes, at most 12240.
    pub length: u32,
    /// The context value, at most 4096 bytes together with the label; left out is not the same as empty in TLS 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ByteBuf>,
}

/// Answer to [`Export`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The keying material.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// Options of a connection's TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketOption {
    /// TCP_NODELAY; on by default.
    NoDelay,
    /// SO_KEEPALIVE; off by default.
    KeepAlive,
}

/// Sets an option of a connection's TCP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetOption {
    /// The connection.
    pub token: Token,
    /// Which one.
    pub option: SocketOption,
    /// On or off.
    pub on: bool,
}

/// The answer of an operation without result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// One request, by operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `hello`
    Hello(Hello),
    /// `blob`
    Blob(Blob),
    /// `context`
    Context(Box<MakeContext>),
    /// `free_context`
    FreeContext(FreeContext),
    /// `connect`, with one descriptor
    Connect(Connect),
    /// `bind`, with one descriptor unless a configured listener is named
    Bind(Bind),
    /// `status`
    Status(ConnectionRef),
    /// `info`
    Info(ConnectionRef),
    /// `peer_certificate`
    PeerCertificate(ConnectionRef),
    /// `peer_matches`
    PeerMatches(PeerMatches),
    /// `export`
    Export(Export),
    /// `set_option`
    SetOption(SetOption),
    /// `renegotiate`: TLS 1.2 renegotiation; TLS 1.3 key update or post-handshake authentication
    Renegotiate(ConnectionRef),
    /// `close`: close_notify goes out after everything that was written
    Close(ConnectionRef),
    /// `certificate`
    Certificate(ReadCertificate),
    /// `check_issued`
    CheckIssued(CheckIssued),
    /// `describe`
    Describe(Describe),
    /// An operation that this side does not know
    Unknown(String),
}

#[derive(Deserialize)]
struct Head {
    id: u64,
    op: String,
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    id: u64,
    op: &'a str,
    #[serde(flatten)]
    fields: &'a T,
}

/// A malformed request, with its id if that could be read.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct BadRequest {
    /// The id to answer to; `None` if it could not be read.
    pub id: Option<u64>,
    /// What was wrong.
    #[source]
    pub source: DecodeError,
}

impl Request {
    /// Reads a request from a frame's body; its id comes first in the result.
    ///
    /// # Errors
    /// [`BadRequest`] where the body is no map of the operation's fields.
    pub fn decode(body: &[u8]) -> Result<(u64, Self), BadRequest> {
        let head: Head = from_body(body).map_err(|source| BadRequest { id: None, source })?;
        let fields =
            Self::decode_fields(&head.op, body).map_err(|source| BadRequest { id: Some(head.id), source })?;
        Ok((head.id, fields))
    }

    fn decode_fields(op: &str, body: &[u8]) -> Result<Self, DecodeError> {
        Ok(match op {
            "hello" => Self::Hello(from_body(body)?),
            "blob" => Self::Blob(decode_blob(body)?),
            "context" => Self::Context(Box::new(decode_context(body)?)),
            "free_context" => Self::FreeContext(from_body(body)?),
            "connect" => Self::Connect(decode_connect(body)?),
            "bind" => Self::Bind(from_body(body)?),
            "status" => Self::Status(from_body(body)?),
            "info" => Self::Info(from_body(body)?),
            "peer_certificate" => Self::PeerCertificate(from_body(body)?),
            "peer_matches" => Self::PeerMatches(from_body(body)?),
            "export" => Self::Export(from_body(body)?),
            "set_option" => Self::SetOption(from_body(body)?),
            "renegotiate" => Self::Renegotiate(from_body(body)?),
            "close" => Self::Close(from_body(body)?),
            "certificate" => Self::Certificate(from_body(body)?),
            "check_issued" => Self::CheckIssued(from_body(body)?),
            "describe" => Self::Describe(from_body(body)?),
            unknown => Self::Unknown(unknown.to_owned()),
        })
    }

    /// The operation's name on the wire.
    #[must_use]
    pub fn operation(&self) -> &str {
        match self {
            Self::Hello(_) => "hello",
            Self::Blob(_) => "blob",
            Self::Context(_) => "context",
            Self::FreeContext(_) => "free_context",
            Self::Connect(_) => "connect",
            Self::Bind(_) => "bind",
            Self::Status(_) => "status",
            Self::Info(_) => "info",
            Self::PeerCertificate(_) => "peer_certificate",
            Self::PeerMatches(_) => "peer_matches",
            Self::Export(_) => "export",
            Self::SetOption(_) => "set_option",
            Self::Renegotiate(_) => "renegotiate",
            Self::Close(_) => "close",
            Self::Certificate(_) => "certificate",
            Self::CheckIssued(_) => "check_issued",
            Self::Describe(_) => "describe",
            Self::Unknown(operation) => operation,
        }
    }

    /// Writes the request as a frame.
    ///
    /// # Errors
    /// As [`crate::to_body`].
    pub fn to_frame(&self, id: u64) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        match self {
            Self::Hello(fields) => self.frame(id, fields),
            Self::Blob(fields) => self.frame(id, fields),
            Self::Context(fields) => self.frame(id, fields),
            Self::FreeContext(fields) => self.frame(id, fields),
            Self::Connect(fields) => self.frame(id, fields),
            Self::Bind(fields) => self.frame(id, fields),
            Self::Status(fields)
            | Self::Info(fields)
            | Self::PeerCertificate(fields)
            | Self::Renegotiate(fields)
            | Self::Close(fields) => self.frame(id, fields),
            Self::PeerMatches(fields) => self.frame(id, fields),
            Self::Certificate(fields) => self.frame(id, fields),
            Self::CheckIssued(fields) => self.frame(id, fields),
            Self::Describe(fields) => self.frame(id, fields),
            Self::Export(fields) => self.frame(id, fields),
            Self::SetOption(fields) => self.frame(id, fields),
            Self::Unknown(_) => self.frame(id, &Done {}),
        }
    }

    fn frame<T: Serialize>(&self, id: u64, fields: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        to_frame(&Outgoing { id, op: self.operation(), fields })
    }
}

/// Reads a list of features. Refuses a violation of the bounds at once, not after reading the whole list.
fn bounded_features<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(Features)
}

struct Features;

impl<'de> Visitor<'de> for Features {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_FEATURES} features of at most {MAX_FEATURE} bytes each")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        // Check the announced length before reading elements.
        let mut features = Vec::new();
        if let Some(length) = list.size_hint().filter(|length| *length > MAX_FEATURES) {
            return Err(A::Error::invalid_length(length, &self));
        }
        while let Some(Feature(name)) = list.next_element()? {
            if features.len() == MAX_FEATURES {
                return Err(A::Error::invalid_length(MAX_FEATURES + 1, &self));
            }
            features.push(name);
        }
        Ok(features)
    }
}

/// The name of one feature.
struct Feature(String);

impl<'de> Deserialize<'de> for Feature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed where the whole frame is in memory: a name above the bound is not copied.
        let name = <&str>::deserialize(deserializer)?;
        if name.len() > MAX_FEATURE {
            return Err(D::Error::invalid_length(name.len(), &Features));
        }
        Ok(Self(name.to_owned()))
    }
}

fn decode_blob(body: &[u8]) -> Result<Blob, DecodeError> {
    let mut blob: Blob = from_body(body)?;
    if holds_private_key(&blob.data) {
        blob.data.zeroize();
        return Err(DecodeError::PrivateKey);
    }
    Ok(blob)
}

fn decode_context(body: &[u8]) -> Result<MakeContext, DecodeError> {
    let request: MakeContext = from_body(body)?;
    request.spec.check_bounds()?;
    Ok(request)
}

fn decode_connect(body: &[u8]) -> Result<Connect, DecodeError> {
    let request: Connect = from_body(body)?;
    request.dane.as_ref().map_or(Ok(()), Dane::check_bounds)?;
    Ok(request)
}

#[derive(Deserialize)]
struct ReplyHead {
    id: u64,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Serialize)]
struct OutgoingReply<'a, T> {
    id: u64,
    #[serde(flatten)]
    fields: &'a T,
}

#[derive(Serialize)]
struct OutgoingError<'a> {
    id: u64,
    error: &'a Failure,
}

/// Writes the answer to request `id` as a frame.
///
/// # Errors
/// As [`crate::to_body`].
pub fn reply_frame<T: Serialize>(
    id: u64,
    outcome: &Result<T, Failure>,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    match outcome {
        Ok(fields) => to_frame(&OutgoingReply { id, fields }),
        Err(error) => to_frame(&OutgoingError { id, error }),
    }
}

/// Reads an answer: the id of its request, then the answer or the failure.
///
/// # Errors
/// [`DecodeError::Malformed`] where the body is neither.
pub fn decode_reply<T: DeserializeOwned>(body: &[u8]) -> Result<(u64, Result<T, Failure>), DecodeError> {
    let head: ReplyHead = from_body(body)?;
    match head.error {
        Some(failure) => Ok((head.id, Err(failure))),
        None => Ok((head.id, Ok(from_body(body)?))),
    }
}

/// Reads only the id of an answer, to find the request that it belongs to.
///
/// # Errors
/// [`DecodeError::Malformed`] where there is none.
pub fn reply_id(body: &[u8]) -> Result<u64, DecodeError> {
    Ok(from_body::<ReplyHead>(body)?.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(features: Vec<String>) -> Result<(u64, Request), BadRequest> {
        let hello = Request::Hello(Hello { version: 1, features, client: String::new() });
        let frame = hello.to_frame(7).unwrap();
        Request::decode(&frame[4..])
    }

    #[test]
    fn finding_4_the_features_of_hello_are_bounded() {
        let names = |count: usize, length: usize| vec!["f".repeat(length); count];
        // Positive control: as many and as long as may be.
        assert!(matches!(hello(names(64, 64)), Ok((7, Request::Hello(_)))));
        for features in [names(65, 1), names(1_000_000, 0), names(1, 65)] {
            let refused = hello(features).unwrap_err();
            assert_eq!(refused.id, Some(7));
            assert!(refused.to_string().contains("at most 64 features"), "{refused}");
        }
    }

    #[test]
    fn finding_4_the_features_of_hello_are_not_read_beyond_their_bound() {
        // {"version": 1, "features": [...]}, where the list announces a million elements and has none of them.
        let begin = b"\x82\xa7version\x01\xa8features";
        let cut_off = [&begin[..], b"\xdd\x00\x0f\x42\x40"].concat();
        let refused = from_body::<Hello>(&cut_off).unwrap_err();
        assert!(refused.to_string().contains("at most 64 features"), "{refused}");
        // Positive control: within the bound the elements are read, and missed.
        let cut_off = [&begin[..], b"\xdd\x00\x00\x00\x40"].concat();
        let refused = from_body::<Hello>(&cut_off).unwrap_err();
        assert!(!refused.to_string().contains("at most"), "{refused}");
    }
}
