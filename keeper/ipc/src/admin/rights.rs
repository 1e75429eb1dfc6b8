//! The rights of a front to an identity, and the files of an identity.

use crate::wire::Malformed;

/// The rights of a front to an identity. A front that reaches an identity without any of these rights gets its public
/// half, and cannot have anything signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct Rights {
    /// CertificateVerify of a TLS 1.3 server.
    pub tls13_server: bool,
    /// ServerKeyExchange of a TLS 1.2 server, with ECDHE.
    pub tls12_server: bool,
    /// ServerKeyExchange with DHE, in addition to `tls12_server`.
    pub dhe: bool,
    /// RSA key exchange of a TLS 1.2 server: the keeper decrypts the pre-master secret.
    pub rsa_key_exchange: bool,
    /// CertificateVerify of a TLS 1.3 client.
    pub tls13_client: bool,
    /// CertificateVerify of a TLS 1.2 client.
    pub tls12_client: bool,
    /// Whether each use is logged.
    pub audit: bool,
}

impl Rights {
    pub(super) fn decode(bits: u8) -> Result<Self, Malformed> {
        if bits & !127 != 0 {
            return Err(Malformed::Value);
        }
        let bit = |n: u8| bits & (1 << n) != 0;
        Ok(Self {
            tls13_server: bit(0),
            tls12_server: bit(1),
            dhe: bit(2),
            rsa_key_exchange: bit(3),
            tls13_client: bit(4),
            tls12_client: bit(5),
            audit: bit(6),
        })
    }

    pub(super) fn encode(self) -> u8 {
        let bits = [
            self.tls13_server,
            self.tls12_server,
            self.dhe,
            self.rsa_key_exchange,
            self.tls13_client,
            self.tls12_client,
            self.audit,
        ];
        bits.into_iter().rev().fold(0, |sum, bit| sum << 1 | u8::from(bit))
    }

    /// Returns the union of both rights.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            tls13_server: self.tls13_server || other.tls13_server,
            tls12_server: self.tls12_server || other.tls12_server,
            dhe: self.dhe || other.dhe,
            rsa_key_exchange: self.rsa_key_exchange || other.rsa_key_exchange,
            tls13_client: self.tls13_client || other.tls13_client,
            tls12_client: self.tls12_client || other.tls12_client,
            audit: self.audit || other.audit,
        }
    }
}

/// The files of an identity. The files of a request arrive as descriptors in the order of the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// The private key, optionally with certificates after it. Always present.
    pub key: bool,
    /// The certificate chain.
    pub certificate: bool,
    /// The passphrase of the key.
    pub password: bool,
    /// The OCSP response.
    pub staple: bool,
}

impl Files {
    /// Returns the number of files.
    #[must_use]
    pub fn count(self) -> usize {
        [self.key, self.certificate, self.password, self.staple].into_iter().filter(|is| *is).count()
    }

    pub(super) fn decode(bits: u8) -> Result<Self, Malformed> {
        if bits & !15 != 0 {
            return Err(Malformed::Value);
        }
        let bit = |n: u8| bits & (1 << n) != 0;
        Ok(Self { key: bit(0), certificate: bit(1), password: bit(2), staple: bit(3) })
    }

    pub(super) fn encode(self) -> u8 {
        let [key, certificate, password, staple] =
            [self.key, self.certificate, self.password, self.staple].map(u8::from);
        key | certificate << 1 | password << 2 | staple << 3
    }
}
