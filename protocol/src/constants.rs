//! The constants of the Lua API, with luassl's own fixed values. The daemon maps them to OpenSSL's by name.

/// One named constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constant {
    /// The name in Lua, such as `OP_NO_TLSv1`.
    pub name: &'static str,
    /// luassl's value: 0 for a retired one, else one bit of its own.
    pub value: u64,
}

/// No verification.
pub const VERIFY_NONE: u64 = 0;
/// Ask the peer for a certificate and verify it.
pub const VERIFY_PEER: u64 = 1;
/// A server fails the handshake when the client sends no certificate.
pub const VERIFY_FAIL_IF_NO_PEER_CERT: u64 = 2;
/// A server asks once, not again in renegotiations.
pub const VERIFY_CLIENT_ONCE: u64 = 4;
