//! Kinds of keys, and the TLS signature schemes that each kind supports.

use std::fmt;

/// A kind of key that the keeper supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, with the size of the modulus in bits.
    Rsa(u32),
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// Ed448.
    Ed448,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::P521 => f.write_str("P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Ed448 => f.write_str("Ed448"),
        }
    }
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A TLS SignatureScheme that the keeper signs with (RFC 8446, 4.2.3). SHA-1 is excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// rsa_pkcs1: TLS 1.2 only.
    RsaPkcs1(Digest),
    /// rsa_pss_rsae, with a salt as long as the digest.
    RsaPss(Digest),
    /// ECDSA; TLS 1.3 ties the digest to the curve.
    Ecdsa(Digest),
    /// Ed25519.
    Ed25519,
    /// Ed448.
    Ed448,
}

impl Scheme {
    /// Returns the scheme of a code point. `None` if the keeper does not sign with it.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            0x0401 => Self::RsaPkcs1(Digest::Sha256),
            0x0501 => Self::RsaPkcs1(Digest::Sha384),
            0x0601 => Self::RsaPkcs1(Digest::Sha512),
            0x0804 => Self::RsaPss(Digest::Sha256),
            0x0805 => Self::RsaPss(Digest::Sha384),
            0x0806 => Self::RsaPss(Digest::Sha512),
            0x0403 => Self::Ecdsa(Digest::Sha256),
            0x0503 => Self::Ecdsa(Digest::Sha384),
            0x0603 => Self::Ecdsa(Digest::Sha512),
            0x0807 => Self::Ed25519,
            0x0808 => Self::Ed448,
            _ => return None,
        })
    }

    /// Returns whether a key of this kind can sign with the scheme, in TLS 1.3 or in TLS 1.2.
    #[must_use]
    pub fn fits(self, key: KeyKind, tls13: bool) -> bool {
        match (self, key) {
            (Self::RsaPkcs1(_), KeyKind::Rsa(_)) => !tls13,
            (Self::RsaPss(_), KeyKind::Rsa(_))
            | (Self::Ed25519, KeyKind::Ed25519)
            | (Self::Ed448, KeyKind::Ed448) => true,
            (Self::Ecdsa(digest), KeyKind::P256) => !tls13 || digest == Digest::Sha256,
            (Self::Ecdsa(digest), KeyKind::P384) => !tls13 || digest == Digest::Sha384,
            (Self::Ecdsa(digest), KeyKind::P521) => !tls13 || digest == Digest::Sha512,
            _ => false,
        }
    }

    /// Returns a scheme that every key of this kind supports.
    #[must_use]
    pub fn usual(key: KeyKind) -> Self {
        match key {
            KeyKind::Rsa(_) => Self::RsaPss(Digest::Sha256),
            KeyKind::P256 => Self::Ecdsa(Digest::Sha256),
            KeyKind::P384 => Self::Ecdsa(Digest::Sha384),
            KeyKind::P521 => Self::Ecdsa(Digest::Sha512),
            KeyKind::Ed25519 => Self::Ed25519,
            KeyKind::Ed448 => Self::Ed448,
        }
    }

    /// Returns the hash. `None` if the hash is part of the signature algorithm.
    pub(crate) fn digest(self) -> Option<Digest> {
        match self {
            Self::RsaPkcs1(digest) | Self::RsaPss(digest) | Self::Ecdsa(digest) => Some(digest),
            Self::Ed25519 | Self::Ed448 => None,
        }
    }
}
