//! What the supervisor pushes to a front: the checked configuration and the trust bundles, one MessagePack value.
//!
//! The front believes it: it comes over the admin socket, which is the supervisor's alone.

use crate::limits::Limits;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;

/// Everything that a front needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// This front's name; `default` where the configuration names none.
    pub front: String,
    /// Who may do what.
    pub grants: Vec<Grant>,
    /// Declared identities of this front by name.
    pub identities: BTreeMap<String, IdentitySettings>,
    /// Trusts by name; `system` is always there.
    pub trusts: BTreeMap<String, TrustSettings>,
    /// Names of the configured listeners. Their sockets come along as descriptors, in this order, unless the front
    /// had them from its start.
    pub listeners: Vec<String>,
    /// Deadlines and limits.
    pub limits: Limits,
    /// How long after its full handshake a session can be resumed, in seconds; 0 for never.
    pub session_lifetime_s: u32,
}

/// What an identity answers to beside its name, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentitySettings {
    /// Absolute paths of its files as declared, and its aliases.
    pub aliases: Vec<String>,
    /// Why the keeper could not load it, for the message to granted callers.
    pub fault: Option<String>,
}

/// CA certificates and CRLs, read whole by the supervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustSettings {
    /// PEM files, each as read.
    pub certificates: Vec<ByteBuf>,
    /// PEM CRLs, each as read.
    pub crls: Vec<ByteBuf>,
}

/// Whom a grant is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grantee {
    /// Processes of a user, by SO_PEERCRED.
    User(u32),
    /// Processes of a group, primary or supplementary.
    Group(u32),
    /// Whoever can connect to the named control socket.
    Socket(String),
}

/// One grant, as checked: names are resolved to numbers, defaults are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// For whom.
    pub grantee: Grantee,
    /// Names of identities; `*` for all.
    pub identities: Vec<String>,
    /// Whether the server role is allowed.
    pub server: bool,
    /// Whether the client role is allowed.
    pub client: bool,
    /// Configured listeners by name; `*` for all.
    pub listeners: Vec<String>,
    /// Whether listening sockets of the caller's own are taken.
    pub listen: bool,
    /// Whether connected sockets of the caller's own are taken.
    pub connect: bool,
    /// Lowest protocol version: `TLSv1.2` or `TLSv1.3`.
    pub minimum_protocol: luassl_protocol::ProtocolVersion,
    /// Whether peers of outgoing connections must be verified, name included, and clients that are asked for a
    /// certificate must present a good one.
    pub verify_required: bool,
    /// Whether secrets may be logged for debugging.
    pub key_log: bool,
    /// Whether TLS 1.2 RSA key exchange is allowed.
    pub rsa_key_exchange: bool,
    /// Whether servers may offer TLS 1.2's DHE key exchange; ECDHE needs no grant of its own.
    pub dhe: bool,
    /// Whether each use is logged.
    pub audit: bool,
    /// The only trusts that its contexts may have; none where programs may bring what they trust.
    pub trusts: Option<Vec<String>>,
    /// Bound on the owner's connections; the limits' where none is given.
    pub max_connections: Option<u32>,
    /// Bound on the owner's contexts; the limits' where none is given.
    pub max_contexts: Option<u32>,
}
