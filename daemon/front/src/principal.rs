//! Who asks: a user at a control socket, with what the kernel tells of its process.

use super::{owner::Owner, policy::Caller};
use std::sync::Arc;

/// Whoever asked, kept for as long as what was asked for lasts.
#[derive(Debug, Clone)]
pub(super) struct Principal {
    pub(super) owner: Owner,
    /// The primary group.
    pub(super) gid: u32,
    pub(super) gids: Arc<[u32]>,
    /// The process that connected, where the kernel can tell.
    pub(super) pid: Option<u32>,
}

impl Principal {
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller { uid: self.owner.uid, gids: &self.gids, socket: &self.owner.socket }
    }
}
