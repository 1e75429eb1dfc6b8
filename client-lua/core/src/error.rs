//! The error of a failed operation: a code for Lua programs and a message for users.

use luassl_protocol::{Failure, FailureReason, LuaCode};

/// A failed operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The number that Lua programs receive.
    pub code: LuaCode,
    /// The problem and its remedy; lower case, no final period.
    pub message: String,
    /// The reason that distinguishes failures with this code, if the daemon sent one.
    pub reason: Option<FailureReason>,
}

impl Error {
    /// Creates an error from its code and message.
    pub fn new(code: LuaCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: None }
    }

    pub(crate) fn timeout(what: &str) -> Self {
        Self::new(LuaCode::Timeout, format!("timeout: {what}"))
    }

    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self::new(LuaCode::Misuse, message)
    }

    pub(crate) fn daemon_gone() -> Self {
        Self::new(LuaCode::Daemon, "the daemon went away")
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code.lua(), message: failure.message, reason: failure.reason }
    }
}
