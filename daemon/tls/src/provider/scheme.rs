//! Maps a signing request of libssl to the SignatureScheme for the keeper (RFC 8446, 4.2.3).

use crate::provider::key::KeyKind;

/// The digests of signatures in TLS 1.2 and 1.3, without SHA-1 and SHA-224.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    /// Returns the digest of any name that OpenSSL has for it.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "SHA256" | "SHA2-256" | "SHA-256" => Some(Self::Sha256),
            "SHA384" | "SHA2-384" | "SHA-384" => Some(Self::Sha384),
            "SHA512" | "SHA2-512" | "SHA-512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// The padding of an RSA signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    Pkcs1,
    Pss,
}

/// Returns the scheme. `None` for a combination that TLS 1.2 and 1.3 do not sign with.
pub(super) fn scheme(kind: KeyKind, digest: Option<Digest>, padding: Padding) -> Option<u16> {
    use Digest::{Sha256, Sha384, Sha512};
    Some(match (kind, digest, padding) {
        (KeyKind::Rsa, Some(Sha256), Padding::Pkcs1) => 0x0401,
        (KeyKind::Rsa, Some(Sha384), Padding::Pkcs1) => 0x0501,
        (KeyKind::Rsa, Some(Sha512), Padding::Pkcs1) => 0x0601,
        (KeyKind::Rsa, Some(Sha256), Padding::Pss) => 0x0804,
        (KeyKind::Rsa, Some(Sha384), Padding::Pss) => 0x0805,
        (KeyKind::Rsa, Some(Sha512), Padding::Pss) => 0x0806,
        (KeyKind::Ec, Some(Sha256), _) => 0x0403,
        (KeyKind::Ec, Some(Sha384), _) => 0x0503,
        (KeyKind::Ec, Some(Sha512), _) => 0x0603,
        (KeyKind::Ed25519, None, _) => 0x0807,
        (KeyKind::Ed448, None, _) => 0x0808,
        _ => return None,
    })
}
