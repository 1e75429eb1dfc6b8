//! Pre-shared keys (PSK): configured keys, and the request for a key during a handshake.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::fmt;
use std::hash::{Hash, Hasher};
use zeroize::Zeroizing;

/// The maximum length of a pre-shared key, in bytes (OpenSSL's PSK_MAX_PSK_LEN).
pub const MAX_PSK: usize = 512;
/// The maximum length of a PSK identity, in bytes; OpenSSL's own limit may be lower (RFC 4279, 5.3).
pub const MAX_PSK_IDENTITY: usize = 256;
/// The maximum number of pre-shared keys of one context.
pub const MAX_PSK_KEYS: usize = 1024;

/// Bytes that are never printed, and are wiped on drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl Secret {
    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} secret bytes", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(ByteBuf::deserialize(deserializer)?.into_vec())))
    }
}

/// The pre-shared keys of a context (RFC 4279, and RFC 8446, 4.2.11). Disables resumption.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PskSpec {
    /// The PSK identity hint of a TLS 1.2 server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<ByteBuf>,
    /// The keys; a client uses the first one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PskKey>,
    /// If no key matches, a lock-step handshake queries the client.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub ask: bool,
}

/// A key and its identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PskKey {
    /// The PSK identity; without zero bytes.
    pub identity: ByteBuf,
    /// The key.
    pub key: Secret,
}

/// A request for a pre-shared key during a handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PskQuestion {
    /// In a request to a server: the identity that the peer sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<ByteBuf>,
    /// In a request to a client: the hint that the peer sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<ByteBuf>,
    /// The maximum length of the identity in the response, in bytes; only in a request to a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_identity: Option<u32>,
    /// The maximum length of the key in the response, in bytes.
    pub max_key: u32,
}
