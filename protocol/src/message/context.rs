//! The description of a context by a client. It is declarative: the same description results in the same
//! context. A client can therefore recreate its contexts after a fork or a restart of the daemon.

use crate::bounds::{MAX_TEXT, check_bytes, check_entries};
use crate::{DaneSpec, DecodeError, MAX_PSK, MAX_PSK_IDENTITY, MAX_PSK_KEYS, PskSpec};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// The SHA-256 of a blob that was sent with [`crate::Blob`]: CA bundle, chain, CRL or DH parameters.
pub type Digest = ByteArray<32>;

/// TLS protocol versions that can be the lowest or highest version of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProtocolVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "TLSv1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "TLSv1.3")]
    Tls13,
}

/// The trust anchors for peers' certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustSpec {
    /// The operating system's certificates.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub system: bool,
    /// Trusts of the daemon's configuration, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
    /// CA certificates supplied by the client, PEM, one or more in each blob.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Digest>,
    /// CRLs supplied by the client, PEM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub crls: Vec<Digest>,
    /// If no trust is given, trust no certificates instead of the system's.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub trust_none: bool,
}

/// An identity of a context in addition to `identity`: a key of another type, for the same names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AdditionalIdentity {
    /// The identity, by any of its names.
    pub identity: String,
    /// The chain of this identity, like `chain` for `identity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Digest>,
}

/// The Diffie-Hellman parameters that a TLS 1.2 server offers for DHE.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhSpec {
    /// Parameters that OpenSSL chooses to match the key.
    Automatic,
    /// A group of RFC 7919, such as `ffdhe2048`.
    Named(String),
    /// PEM parameters supplied by the client.
    Parameters(Digest),
}

/// A server name that clients request (SNI), and its identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SniEntry {
    /// A host name, or a wildcard such as `*.example.org`.
    pub name: String,
    /// The identity, by any of its names.
    pub identity: String,
}

/// The description of a context. Omitted fields have the documented defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ContextSpec {
    /// The identity to authenticate with; `None` for a client without a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The program's working directory. If an identity is not known by the given name, the directory joined
    /// with that name is looked up. The path is only compared as text; no file is opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// More identities of a listener, selected by the names in their certificates if a client requests one
    /// (SNI).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<String>,
    /// Identities of a listener by names that the client specifies. They take precedence over names in
    /// certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<SniEntry>,
    /// Whether to refuse a server name without an identity instead of using the default identity.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub sni_strict: bool,
    /// The chain for `identity`, PEM, leaf first; its first certificate must contain the identity's public
    /// key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Digest>,
    /// The certificates in the second argument of the classic API. They are the chain if the first one
    /// contains the identity's public key, and otherwise trust anchors (in addition to the system's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_or_trust: Option<Digest>,
    /// More identities in addition to `identity`, for any server name. The peer's algorithms determine which
    /// one is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_identities: Vec<AdditionalIdentity>,
    /// The trust; if all fields are empty, the system's.
    pub trust: TrustSpec,
    /// Sum of luassl's `VERIFY_` constants; omitted: a client verifies, a server does not request a
    /// certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<u64>,
    /// The maximum length of a chain below a trust anchor; default 4, as in LuaSSL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// Continue if verification of the peer fails, and report the errors ([`crate::Facts`]).
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub verify_continue: bool,
    /// Accept a server certificate from the peer in either role.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub ignore_purpose: bool,
    /// Check for revocation even if the trust has no CRL; verification then fails.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub crl_check: bool,
    /// Check every certificate of a chain for revocation; otherwise only the leaf (if there are CRLs).
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub crl_check_chain: bool,
    /// Sum of luassl's `OP_` constants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<u64>,
    /// Ciphers of TLS 1.2, in OpenSSL's notation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ciphers: Option<String>,
    /// Cipher suites of TLS 1.3, separated by colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ciphersuites: Option<String>,
    /// Groups for the key exchange, separated by colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
    /// Lowest version; default TLS 1.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_protocol: Option<ProtocolVersion>,
    /// Highest version; default TLS 1.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_protocol: Option<ProtocolVersion>,
    /// Application protocols (ALPN), in order of preference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// A server continues without an application protocol if there is no common one; otherwise the handshake fails.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub alpn_optional: bool,
    /// A server's lock-step handshakes stop at the ClientHello and query the client. Disables resumption.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub client_hello: bool,
    /// Diffie-Hellman parameters; default automatic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dh: Option<DhSpec>,
    /// Neither resume sessions nor let peers resume them.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub no_resumption: bool,
    /// Pre-shared keys, in addition to or instead of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psk: Option<PskSpec>,
    /// Clients may verify by TLSA records ([`crate::Connect`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dane: Option<DaneSpec>,
    /// Clients request a stapled OCSP response (RFC 6066, 8) and report it ([`crate::Facts`]).
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub staple: bool,
    /// Export the TLS secrets of connections ([`crate::Facts`]), for debugging.
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub key_log: bool,
}

/// The maximum number of entries of a list in a [`ContextSpec`], except `identities` and `sni`.
pub const MAX_LIST: usize = 64;
/// The maximum number of identities, and of SNI entries, of a [`ContextSpec`].
pub const MAX_NAMES: usize = 4096;

impl ContextSpec {
    /// Checks the limits of lists and texts, which the front stores.
    ///
    /// # Errors
    /// Returns [`DecodeError::Bound`] with the first field that exceeds its limit.
    pub fn check_bounds(&self) -> Result<(), DecodeError> {
        check_entries("identities", self.identities.len(), MAX_NAMES)?;
        check_entries("sni", self.sni.len(), MAX_NAMES)?;
        check_entries("additional_identities", self.additional_identities.len(), MAX_LIST)?;
        check_entries("alpn", self.alpn.len(), MAX_LIST)?;
        check_entries("trust.named", self.trust.named.len(), MAX_LIST)?;
        check_entries("trust.certificates", self.trust.certificates.len(), MAX_LIST)?;
        check_entries("trust.crls", self.trust.crls.len(), MAX_LIST)?;
        self.psk.as_ref().map_or(Ok(()), check_psk)?;
        self.texts().try_for_each(|(field, text)| check_text(field, text))
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let group = match &self.dh {
            Some(DhSpec::Named(name)) => Some(name),
            _ => None,
        };
        let lone = [
            ("identity", self.identity.as_ref()),
            ("directory", self.directory.as_ref()),
            ("ciphers", self.ciphers.as_ref()),
            ("ciphersuites", self.ciphersuites.as_ref()),
            ("groups", self.groups.as_ref()),
            ("dh", group),
        ];
        let lone = lone.into_iter().filter_map(|(field, text)| Some((field, text?)));
        let sni = self.sni.iter().flat_map(|entry| [("sni", &entry.name), ("sni", &entry.identity)]);
        lone.chain(self.identities.iter().map(|text| ("identities", text)))
            .chain(
                self.additional_identities
                    .iter()
                    .map(|additional| ("additional_identities", &additional.identity)),
            )
            .chain(self.alpn.iter().map(|text| ("alpn", text)))
            .chain(self.trust.named.iter().map(|text| ("trust.named", text)))
            .chain(sni)
    }
}

fn check_psk(psk: &PskSpec) -> Result<(), DecodeError> {
    check_entries("psk.keys", psk.keys.len(), MAX_PSK_KEYS)?;
    check_bytes("psk.hint", psk.hint.as_ref().map_or(0, |hint| hint.len()), MAX_PSK_IDENTITY)?;
    psk.keys.iter().try_for_each(|key| {
        check_bytes("psk.keys.identity", key.identity.len(), MAX_PSK_IDENTITY)?;
        check_bytes("psk.keys.key", key.key.bytes().len(), MAX_PSK)
    })
}

fn check_text(field: &'static str, text: &str) -> Result<(), DecodeError> {
    check_bytes(field, text.len(), MAX_TEXT)
}
