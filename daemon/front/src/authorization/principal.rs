//! Who asks: a user at a control socket, with what the kernel tells of its process.

use crate::authorization::{owner::Owner, policy::Caller};
use std::sync::Arc;

/// Whoever asked, kept for as long as what was asked for lasts.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) owner: Owner,
    /// The primary group.
    pub(crate) gid: u32,
    pub(crate) gids: Arc<[u32]>,
    /// The process that connected, where the kernel can tell.
    pub(crate) pid: Option<u32>,
}

impl Principal {
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller { uid: self.owner.uid, gids: &self.gids, socket: &self.owner.socket }
    }
}
