//! The settings that the supervisor pushes to a front: the checked configuration and the trust bundles, as
//! one MessagePack value.
//!
//! The front trusts them: they arrive on the admin socket, which only the supervisor has access to.

use crate::limits::Limits;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;

/// The complete settings of a front.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The front's name; `default` if the configuration declares no fronts.
    pub front: String,
    /// The grants.
    pub grants: Vec<Grant>,
    /// Declared identities of this front by name.
    pub identities: BTreeMap<String, IdentitySettings>,
    /// Trusts by name. `system` is always present.
    pub trusts: BTreeMap<String, TrustSettings>,
    /// Names of the configured listeners. Their sockets are passed as descriptors, in this order, unless the
    /// front already has them from its start.
    pub listeners: Vec<String>,
    /// Deadlines and limits.
    pub limits: Limits,
    /// The time after its full handshake during which a session can be resumed, in seconds; 0 disables
    /// resumption.
    pub session_lifetime_s: u32,
}

/// The other names of an identity, and its error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentitySettings {
    /// Absolute paths of its files as declared, and its aliases.
    pub aliases: Vec<String>,
    /// The reason why the keeper could not load it, for the message to callers with a grant.
    pub fault: Option<String>,
}

/// CA certificates and CRLs. The supervisor has read them completely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustSettings {
    /// PEM files, each as read.
    pub certificates: Vec<ByteBuf>,
    /// PEM CRLs, each as read.
    pub crls: Vec<ByteBuf>,
}

/// The callers that a grant applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grantee {
    /// Processes of a user, according to SO_PEERCRED.
    User(u32),
    /// Processes of a group, primary or supplementary.
    Group(u32),
    /// All processes that can connect to the named control socket.
    Socket(String),
}

/// One grant after the check: names are resolved to numbers, and defaults are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The callers that it applies to.
    pub grantee: Grantee,
    /// Names of identities; `*` for all.
    pub identities: Vec<String>,
    /// Whether the server role is allowed.
    pub server: bool,
    /// Whether the client role is allowed.
    pub client: bool,
    /// Configured listeners by name; `*` for all.
    pub listeners: Vec<String>,
    /// Whether the caller may pass its own listening sockets.
    pub listen: bool,
    /// Whether the caller may pass its own connected sockets.
    pub connect: bool,
    /// Lowest protocol version: `TLSv1.2` or `TLSv1.3`.
    pub minimum_protocol: luassl_protocol::ProtocolVersion,
    /// Whether peers of outgoing connections must be verified, including their name, and clients that are
    /// asked for a certificate must present a valid one.
    pub verify_required: bool,
    /// Whether secrets may be logged for debugging.
    pub key_log: bool,
    /// Whether TLS 1.2 RSA key exchange is allowed.
    pub rsa_key_exchange: bool,
    /// Whether servers may offer TLS 1.2's DHE key exchange; ECDHE needs no grant of its own.
    pub dhe: bool,
    /// Whether each use is logged.
    pub audit: bool,
    /// The only trusts that its contexts may have; `None` if programs may supply their own.
    pub trusts: Option<Vec<String>>,
    /// Limit on the owner's connections; `None` for that of the configuration's limits.
    pub max_connections: Option<u32>,
    /// Limit on the owner's contexts; `None` for that of the configuration's limits.
    pub max_contexts: Option<u32>,
}
