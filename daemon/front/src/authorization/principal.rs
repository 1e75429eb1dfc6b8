//! The principal of a request: a user at a control socket, with what the kernel reports about its process.

use crate::authorization::{owner::Owner, policy::Caller};
use std::sync::Arc;

/// The author of a request. It is kept as long as the requested object exists.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) owner: Owner,
    /// The primary group.
    pub(crate) gid: u32,
    pub(crate) gids: Arc<[u32]>,
    /// The process that connected; `None` if the kernel cannot report it.
    pub(crate) pid: Option<u32>,
}

impl Principal {
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller { uid: self.owner.uid, gids: &self.gids, socket: &self.owner.socket }
    }
}
