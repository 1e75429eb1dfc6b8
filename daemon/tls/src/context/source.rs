//! What a context is made of.

use luassl_protocol::{ContextSpec, Digest, Failure, ProtocolVersion};
use luassl_settings::Grant;
use std::collections::HashMap;
use std::sync::Arc;

/// What a grant demands, whatever the context asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Floors {
    /// The lowest protocol version.
    pub minimum_protocol: ProtocolVersion,
    /// Peers of outgoing connections are verified, name included; clients that are asked for a certificate must
    /// present a good one.
    pub verify_required: bool,
    /// Whether TLS 1.2 RSA key exchange is allowed.
    pub rsa_key_exchange: bool,
    /// Whether a server with an identity may offer TLS 1.2 DHE key exchange.
    pub dhe: bool,
    /// Whether secrets may be told for debugging.
    pub key_log: bool,
}

impl From<&Grant> for Floors {
    fn from(grant: &Grant) -> Self {
        Self {
            minimum_protocol: grant.minimum_protocol,
            verify_required: grant.verify_required,
            rsa_key_exchange: grant.rsa_key_exchange,
            dhe: grant.dhe,
            key_log: grant.key_log,
        }
    }
}

/// Where the memory of parsed certificates and CRLs is charged.
pub trait Ledger: std::fmt::Debug + Send + Sync {
    /// Charges so many bytes, until what is returned is dropped.
    ///
    /// # Errors
    /// `Limit` where that would pass a bound.
    fn charge(&self, bytes: u64) -> Result<Charge, Failure>;
}

/// A charge; it lasts as long as this.
pub type Charge = Box<dyn std::any::Any + Send + Sync>;

/// Everything that a context is made of.
#[derive(Debug, Clone)]
pub struct ContextSource {
    /// What the client asked for; each identity in it is given by its declared name.
    pub spec: ContextSpec,
    /// The bytes for each digest in `spec`.
    pub blobs: HashMap<Digest, Arc<[u8]>>,
    /// What its grant demands.
    pub floors: Floors,
    /// Whom its sessions belong to.
    pub owner: Arc<str>,
    /// Whether the client had it before: a chain that it brought then gives way to the identity's own where the
    /// identity was renewed since.
    pub recreated: bool,
    /// Where what is parsed is charged; nowhere where there is none.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// The only trusts that the grant accepts, by name; none where the client may bring what it trusts.
    pub trusts: Option<Arc<[String]>>,
}
