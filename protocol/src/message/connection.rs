//! Requests for connections and listeners, and requests about them.

use crate::{Dane, Failure, bounds::is_false};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

/// The 128-bit identifier of a connection; valid only on control connections of its owner.
pub type Token = ByteArray<16>;

/// The front's side of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Accepts a handshake.
    Server,
    /// Begins a handshake.
    Client,
}

/// The way in which plaintext is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The front transfers data between TLS and the connection's socket.
    Stream,
    /// The front works on the TCP socket only on request.
    LockStep,
}

/// Begins TLS on a connected TCP socket, which is passed as the request's descriptor. The answer
/// ([`Connecting`]) contains the connection's socket. The result of the handshake follows on that socket as a
/// framed [`crate::HandshakeResult`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// The context's number.
    pub context: u64,
    /// The front's side of the handshake.
    pub role: Role,
    /// The way in which plaintext is transferred.
    pub mode: Mode,
    /// The name or address that the peer's certificate must contain (RFC 9525); omitted: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The server name to send; omitted: `host`, if that is a name and not an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The TLSA records that verify a client's connection; its context has [`crate::ContextSpec::dane`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dane: Option<Dane>,
    /// Whether a client in lock-step mode resumes an earlier session with the same server, if there is one.
    /// In stream mode the context decides.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resume: bool,
}

impl Connect {
    /// Creates a request without the optional fields.
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
    /// The configured listener; omitted: the descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
}

/// Answer to [`Bind`], with one descriptor: the holder's delivery socket (SOCK_SEQPACKET).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The address that the listener is bound to, as `address:port`.
    pub address: String,
}

/// Identifies a connection; the request of `status`, `info`, `peer_certificate`, `renegotiate` and `close`.
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
    /// The way in which the peer's side ended: `closed`, `cut`, `tls` and so on. `None` while it is open.
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
    /// The application protocol that was negotiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// The server name that the client requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// OpenSSL's result of the verification of the peer; 0 is success (X509_V_OK).
    pub verify_code: i32,
    /// The result as text; empty if the peer sent no certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verify_text: String,
    /// Whether the peer sent a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub peer_certificate: bool,
    /// The peer's address as `address:port`, `[address]:port` for IPv6, or empty.
    pub peer: String,
    /// The local address, in the same format.
    pub local: String,
}

/// The peer's certificate, parsed by the front; the answer to `peer_certificate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerCertificate {
    /// The leaf and the other certificates that the peer sent, DER, leaf first; empty if the peer sent none.
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

/// Requests whether the peer's certificate contains a name, for `accept(expected)`.
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
    /// The number of bytes, at most 12240.
    pub length: u32,
    /// The context value, at most 4096 bytes together with the label. In TLS 1.2, an omitted value differs
    /// from an empty one.
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
    /// The option.
    pub option: SocketOption,
    /// Whether to switch it on or off.
    pub on: bool,
}
