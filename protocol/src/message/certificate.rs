//! Certificates that the front parses for clients, which do not link OpenSSL.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Requests the contents of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCertificate {
    /// PEM, of which the first certificate is used, or DER.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// A text of a certificate, in its original encoding and as UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateText {
    /// The type of the text: an object identifier with dots, or, for a simple kind of general name, its name
    /// in RFC 5280, such as `dNSName`.
    pub oid: String,
    /// OpenSSL's name for the type; empty for a simple kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The original bytes.
    pub value: ByteBuf,
    /// The text as UTF-8, if that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utf8: Option<ByteBuf>,
}

/// The contents of a certificate, in OpenSSL's notation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateFacts {
    /// The certificate, DER.
    pub der: ByteBuf,
    /// The same as PEM.
    pub pem: String,
    /// The components of the subject, in their order.
    pub subject: Vec<CertificateText>,
    /// The components of the issuer.
    pub issuer: Vec<CertificateText>,
    /// The subject alternative names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<CertificateText>,
    /// Start of validity in OpenSSL's notation.
    pub not_before: String,
    /// End of validity.
    pub not_after: String,
    /// Start of validity, seconds since 1970.
    pub valid_from: i64,
    /// End of validity, seconds since 1970.
    pub valid_to: i64,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Public key as PEM.
    pub public_key: String,
    /// `RSA`, `EC`, `DSA`, `DH` or `Unknown`.
    pub key_type: String,
    /// Size of the public key in bits.
    pub key_bits: u32,
    /// OpenSSL's short name of the signature algorithm.
    pub signature: String,
    /// SHA-1 of the DER.
    pub sha1: ByteBuf,
    /// SHA-256 of the DER.
    pub sha256: ByteBuf,
    /// SHA-512 of the DER.
    pub sha512: ByteBuf,
}

/// Requests whether a certificate verifies with another one as its only trust anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckIssued {
    /// The trust anchor, DER.
    #[serde(with = "serde_bytes")]
    pub anchor: Vec<u8>,
    /// The certificate, DER.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// Possible intermediate certificates, DER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub between: Vec<ByteBuf>,
}

/// Answer to [`CheckIssued`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Whether it verifies.
    pub issued: bool,
    /// OpenSSL's message if it does not; otherwise empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Requests the front's capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Describe {}

/// Answer to [`Describe`]: what the front's OpenSSL supports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// The groups of key exchanges and the curves of keys, by OpenSSL's names.
    pub groups: Vec<String>,
    /// The protocol versions.
    pub protocols: Vec<String>,
}
