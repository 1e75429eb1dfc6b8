//! The input for a context.

use luassl_protocol::{ContextSpec, Digest, Failure, ProtocolVersion};
use luassl_settings::Grant;
use std::collections::HashMap;
use std::sync::Arc;

/// The minimum requirements of a grant, independent of what the context requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Floors {
    /// The lowest protocol version.
    pub minimum_protocol: ProtocolVersion,
    /// Whether peers of outgoing connections are verified, including the name, and whether clients that are asked for a
    /// certificate must present a good one.
    pub verify_required: bool,
    /// Whether TLS 1.2 RSA key exchange is allowed.
    pub rsa_key_exchange: bool,
    /// Whether a server with an identity may offer TLS 1.2 DHE key exchange.
    pub dhe: bool,
    /// Whether secrets may be revealed for debugging.
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

/// The account for the memory of parsed certificates and CRLs.
pub trait Ledger: std::fmt::Debug + Send + Sync {
    /// Charges the given number of bytes until the returned value is dropped.
    ///
    /// # Errors
    /// `Limit` if the charge would exceed a limit.
    fn charge(&self, bytes: u64) -> Result<Charge, Failure>;
}

/// A charge. It ends when it is dropped.
pub type Charge = Box<dyn std::any::Any + Send + Sync>;

/// All input for a context.
#[derive(Debug, Clone)]
pub struct ContextSource {
    /// The description from the client. Each identity in it has its declared name.
    pub spec: ContextSpec,
    /// The bytes for each digest in `spec`.
    pub blobs: HashMap<Digest, Arc<[u8]>>,
    /// The requirements of the grant.
    pub floors: Floors,
    /// The owner of its sessions.
    pub owner: Arc<str>,
    /// Whether the client had the context before. In that case, if the identity was renewed since, the identity's own
    /// chain replaces a chain that the client supplied.
    pub recreated: bool,
    /// The account for parsed data. `None` if parsed data is not charged.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// The only trusts that the grant accepts, by name. `None` if the client may supply its own trust.
    pub trusts: Option<Arc<[String]>>,
}
