//! What the supervisor pushes to a front: the checked configuration and the trust bundles, one MessagePack value.
//!
//! The front believes it: it comes over the admin socket, which is the supervisor's alone.

use luassl_keeper_ipc::admin::{HANDSHAKE_MS, Rates};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::{collections::BTreeMap, time::Duration};

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

/// Deadlines in milliseconds, and bounds. The configuration's `[limits]` has the same names; there, deadlines are in
/// seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A handshake, from the accepted or passed socket to its end.
    pub handshake_ms: u32,
    /// The first ClientHello of an accepted connection, whole.
    pub client_hello_ms: u32,
    /// A shutdown: from the last progress of draining to the close of the TCP socket.
    pub shutdown_ms: u32,
    /// A control request, and a question on a lock-step connection, from its first byte to its last.
    pub request_ms: u32,
    /// A call to the keeper.
    pub keeper_ms: u32,
    /// Established connections of one owner.
    pub connections_per_owner: u32,
    /// Established connections in all.
    pub connections: u32,
    /// Contexts of one owner.
    pub contexts_per_owner: u32,
    /// Contexts in all.
    pub contexts: u32,
    /// Listeners of one owner.
    pub listeners_per_owner: u32,
    /// Listeners in all.
    pub listeners: u32,
    /// Handshakes under way for one owner.
    pub handshakes_per_owner: u32,
    /// Handshakes under way in all.
    pub handshakes: u32,
    /// Handshakes under way of connections that one listener has accepted.
    pub handshakes_per_listener: u32,
    /// Handshakes under way of connections that listeners of one owner have accepted from one source: an IPv4 address, or a
    /// /64 of IPv6.
    pub handshakes_per_source: u32,
    /// Handshakes of one owner that may ask its program for a key, each on a thread of its own.
    pub psk_handshakes_per_owner: u32,
    /// The same in all.
    pub psk_handshakes: u32,
    /// Finished connections of one owner's listeners that nobody has taken.
    pub undelivered_per_owner: u32,
    /// Finished connections that nobody has taken, in all.
    pub undelivered: u32,
    /// Control connections of one owner.
    pub control_connections_per_owner: u32,
    /// Control connections in all.
    pub control_connections: u32,
    /// Control connections of all callers without a grant together; they are none of the ones above.
    pub ungranted_connections: u32,
    /// Bytes of requests of one owner that have not come whole, or are being answered.
    pub frame_bytes_in_flight_per_owner: u32,
    /// The same in all.
    pub frame_bytes_in_flight: u32,
    /// Bytes of blobs (CA bundles, chains) kept for one owner.
    pub blob_bytes_per_owner: u32,
    /// Bytes of blobs kept in all.
    pub blob_bytes: u32,
    /// Bytes that one owner's certificates and CRLs take once they are parsed.
    pub parsed_bytes_per_owner: u32,
    /// The same in all.
    pub parsed_bytes: u32,
    /// Requests of one owner that wait to be parsed.
    pub parsing_jobs_per_owner: u32,
    /// CPU time that parsing for one owner takes, in seconds a minute.
    pub parsing_cpu_per_owner: u32,
    /// TLS sessions kept for one owner, those of servers and those of clients each.
    pub sessions_per_owner: u32,
    /// TLS sessions kept in all, likewise.
    pub sessions: u32,
    /// Signatures and pre-master secrets that the keeper makes for a front with one identity, a second.
    pub signatures_per_identity: u32,
    /// Requests for them that it hears from a front, a second.
    pub signatures_per_front: u32,
    /// Body of a control frame, in bytes.
    pub frame_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_ms: HANDSHAKE_MS,
            client_hello_ms: 5_000,
            shutdown_ms: 5_000,
            request_ms: 10_000,
            keeper_ms: 5_000,
            connections_per_owner: 10_000,
            connections: 50_000,
            contexts_per_owner: 1_000,
            contexts: 10_000,
            listeners_per_owner: 64,
            listeners: 256,
            handshakes_per_owner: 1_024,
            handshakes: 4_096,
            handshakes_per_listener: 512,
            // Half of a listener's: one source alone never brings another's connections to an early drop.
            handshakes_per_source: 256,
            psk_handshakes_per_owner: 16,
            psk_handshakes: 64,
            undelivered_per_owner: 256,
            undelivered: 1_024,
            control_connections_per_owner: 1_024,
            control_connections: 4_096,
            ungranted_connections: 16,
            frame_bytes_in_flight_per_owner: 16 << 20,
            frame_bytes_in_flight: 48 << 20,
            blob_bytes_per_owner: 8 << 20,
            blob_bytes: 64 << 20,
            parsed_bytes_per_owner: 16 << 20,
            parsed_bytes: 512 << 20,
            parsing_jobs_per_owner: 256,
            parsing_cpu_per_owner: 10,
            sessions_per_owner: 5_000,
            sessions: 20_000,
            signatures_per_identity: Rates::default().identity,
            signatures_per_front: Rates::default().front,
            frame_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// The deadline of a handshake.
    #[must_use]
    pub fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms.into())
    }

    /// The deadline of the first ClientHello.
    #[must_use]
    pub fn client_hello(&self) -> Duration {
        Duration::from_millis(self.client_hello_ms.into())
    }

    /// How long a connection that is being shut down may go without progress.
    #[must_use]
    pub fn shutdown(&self) -> Duration {
        Duration::from_millis(self.shutdown_ms.into())
    }

    /// The deadline of a control request.
    #[must_use]
    pub fn request(&self) -> Duration {
        Duration::from_millis(self.request_ms.into())
    }

    /// The CPU time that parsing for one owner takes in a minute.
    #[must_use]
    pub fn parsing_cpu(&self) -> Duration {
        Duration::from_secs(self.parsing_cpu_per_owner.into())
    }

    /// The deadline of a call to the keeper.
    #[must_use]
    pub fn keeper(&self) -> Duration {
        Duration::from_millis(self.keeper_ms.into())
    }
}
