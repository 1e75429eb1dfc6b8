//! Whom tokens, listeners, contexts and quotas belong to.

use luassl_settings::NO_GRANT;
use std::sync::Arc;

/// (name of the control socket, uid): a program reaches what it made through the same socket as the same user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    /// The named control socket, or `control`.
    pub(crate) socket: Arc<str>,
    /// By SO_PEERCRED.
    pub(crate) uid: u32,
}

impl Owner {
    /// All callers without a grant together. No control socket has an empty name, and no user this number.
    pub(crate) fn ungranted() -> Self {
        Self { socket: "".into(), uid: NO_GRANT }
    }

    /// Unlike any other owner's.
    pub(crate) fn label(&self) -> Arc<str> {
        format!("{} {}", self.uid, self.socket).into()
    }
}
