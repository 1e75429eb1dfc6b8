//! The error codes of the wire and of Lua, and the mapping between them.

use serde::{Deserialize, Serialize};

/// The reason why an operation or a connection failed, as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The peer closed the connection with close_notify.
    Closed,
    /// The TLS protocol failed: an alert, no common cipher, bytes that are not TLS.
    Tls,
    /// A deadline passed.
    Timeout,
    /// The TCP connection ended without close_notify.
    Cut,
    /// The keeper (or another part of the daemon) cannot be reached.
    Unavailable,
    /// The peer's certificate did not verify.
    Verification,
    /// An identity, trust or listener is unknown to the caller, or is not granted to it.
    Refused,
    /// A limit of the caller's grant or of the daemon was reached.
    Limit,
    /// The listener is in use with other settings or by another owner.
    InUse,
    /// A value in the request cannot be used: cipher list, option bit, group, certificate, token, context.
    Invalid,
    /// The descriptor is missing, or is not a socket of the required kind.
    Descriptor,
    /// The frame was not a message, or its fields had the wrong types.
    Malformed,
    /// The frame was above the limit.
    TooLarge,
    /// This side does not support the protocol version.
    Version,
    /// This side does not know the operation.
    UnknownOperation,
    /// An internal error of the daemon.
    Internal,
    /// A code that is unknown to this side.
    #[serde(other)]
    Other,
}

/// The number that a Lua program receives for a failure. The manual lists them; they are the same for every
/// call and every version of Lua.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum LuaCode {
    /// Closed by the peer.
    Closed = 0,
    /// TLS failure.
    Tls = -1,
    /// Timeout, or would block.
    Timeout = -2,
    /// The connection was cut.
    Cut = -3,
    /// The daemon went away.
    Daemon = -4,
    /// Verification of the peer failed.
    Verification = -5,
    /// Refused: identity, grant or limit.
    Refused = -6,
    /// Misuse detected late.
    Misuse = -7,
}

impl ErrorCode {
    /// Returns the number that Lua programs receive for this code.
    #[must_use]
    pub fn lua(self) -> LuaCode {
        match self {
            Self::Closed => LuaCode::Closed,
            Self::Tls => LuaCode::Tls,
            Self::Timeout => LuaCode::Timeout,
            Self::Cut => LuaCode::Cut,
            Self::Unavailable | Self::Internal | Self::Other => LuaCode::Daemon,
            Self::Verification => LuaCode::Verification,
            Self::Refused | Self::Limit | Self::InUse => LuaCode::Refused,
            Self::Invalid
            | Self::Descriptor
            | Self::Malformed
            | Self::TooLarge
            | Self::Version
            | Self::UnknownOperation => LuaCode::Misuse,
        }
    }
}

/// Distinguishes failures with the same code if programs need to, so that programs do not have to parse
/// messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// `tls`: the peer sent an alert.
    Alert,
    /// `tls`: no version, cipher, group, algorithm or protocol in common.
    NothingInCommon,
    /// `invalid`: PEM that cannot be read, or that lacks the expected block.
    Pem,
    /// `limit`: the limit on contexts.
    Contexts,
    /// A reason that is unknown to this side.
    #[serde(other)]
    Other,
}

/// A failure on the wire: a code for programs and a message for users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind of failure.
    pub code: ErrorCode,
    /// The problem and its remedy; lower case, no final period.
    pub message: String,
    /// The reason, if programs distinguish failures with this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailureReason>,
}

impl Failure {
    /// Creates a failure from its code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: None }
    }

    /// Adds a reason.
    #[must_use]
    pub fn because(self, reason: FailureReason) -> Self {
        Self { reason: Some(reason), ..self }
    }
}
