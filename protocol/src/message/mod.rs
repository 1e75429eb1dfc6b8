//! Requests and answers on the control socket.
//!
//! A request is one flat map with `id`, `op` and the operation's fields. Its answer is one flat map with the
//! same `id`, and with the answer's fields or with `error`.

pub(crate) mod certificate;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod dane;
pub(crate) mod hello;
pub(crate) mod lockstep;
pub(crate) mod material;
pub(crate) mod reply;
pub(crate) mod stream;

use crate::{
    Bind, CheckIssued, Connect, ConnectionRef, ContextSpec, Dane, DecodeError, Describe, Digest, Export,
    Hello, PeerMatches, ReadCertificate, SetOption, bounds::is_false, from_body, holds_private_key, to_frame,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Public material that contexts refer to by digest. Its size is limited by the frame and by the owner's
/// quota.
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
    /// Whether the client recreates a context of an earlier control connection. If so, and if the chain that
    /// it supplied no longer matches a renewed identity, the identity's own chain replaces it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
}

/// Answer to [`MakeContext`]: a context, or the blobs that must be sent first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextMade {
    /// The context's number on this control connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Digests that the front does not have. The client sends them as [`Blob`] and repeats the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Digest>,
}

/// Identifies a context of this control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeContext {
    /// The number from [`ContextMade`].
    pub context: u64,
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
    /// `close`: close_notify is sent after all written data
    Close(ConnectionRef),
    /// `certificate`
    Certificate(ReadCertificate),
    /// `check_issued`
    CheckIssued(CheckIssued),
    /// `describe`
    Describe(Describe),
    /// An operation that is unknown to this side
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
    /// The id for the answer; `None` if it could not be read.
    pub id: Option<u64>,
    /// The error.
    #[source]
    pub source: DecodeError,
}

impl Request {
    /// Decodes a request from a frame's body. Returns its id and the request.
    ///
    /// # Errors
    /// Returns [`BadRequest`] if the body is not a map of the operation's fields.
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

    /// Returns the operation's name on the wire.
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

    /// Encodes the request as a frame.
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
