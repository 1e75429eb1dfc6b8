//! What the threads of a link have in common.

use crate::keeper_client::health::Health;
use crate::keeper_client::identities::Identities;
use luassl_tls::TicketKeys;
use std::path::PathBuf;
use std::sync::Arc;

/// What the subscription's thread and the callers have in common.
pub(super) struct Shared {
    /// Tells the sockets of different links in one thread apart.
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) health: Health,
    pub(super) identities: Arc<Identities>,
    pub(super) tickets: Arc<TicketKeys>,
}
