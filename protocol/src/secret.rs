//! Keys that two peers share beforehand: who has which, and what is asked where that is not known beforehand.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::fmt;
use std::hash::{Hash, Hasher};
use zeroize::Zeroizing;

/// The longest key that two peers share, in bytes (OpenSSL's PSK_MAX_PSK_LEN).
pub const MAX_PSK: usize = 512;
/// The longest name of such a key, in bytes; OpenSSL's own bound may be below it (RFC 4279, 5.3).
pub const MAX_PSK_IDENTITY: usize = 256;
/// The most keys of one context.
pub const MAX_PSK_KEYS: usize = 1024;

/// Bytes that no message shows, and that are wiped when they are dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl Secret {
    /// The bytes.
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

/// Which keys a context shares with its peers (RFC 4279, and RFC 8446, 4.2.11). Nothing is resumed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PskSpec {
    /// What a server of TLS 1.2 says to help a client to choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<ByteBuf>,
    /// A server's keys; of a client's the first is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PskKey>,
    /// Where the keys do not answer, a lock-step handshake asks the client.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub ask: bool,
}

/// A key under its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PskKey {
    /// The name that the client says; no zero byte.
    pub identity: ByteBuf,
    /// The key.
    pub key: Secret,
}

/// What a handshake has to know to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PskQuestion {
    /// To a server: the name that the peer says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<ByteBuf>,
    /// To a client: what the peer says to help it to choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<ByteBuf>,
    /// The longest name that can be answered, in bytes; to a client alone.
    #[serde(rename = "most_identity", skip_serializing_if = "Option::is_none")]
    pub max_identity: Option<u32>,
    /// The longest key that can be answered, in bytes.
    #[serde(rename = "most_key")]
    pub max_key: u32,
}
