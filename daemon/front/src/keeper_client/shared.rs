//! The state that the threads of a link share.

use crate::keeper_client::health::Health;
use crate::keeper_client::identities::Identities;
use luassl_tls::TicketKeys;
use std::path::PathBuf;
use std::sync::Arc;

/// The state that the subscription's thread and the callers share.
pub(super) struct Shared {
    /// The number that distinguishes the sockets of different links in one thread.
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) health: Health,
    pub(super) identities: Arc<Identities>,
    pub(super) tickets: Arc<TicketKeys>,
}
