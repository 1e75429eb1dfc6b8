//! The owner of tokens, listeners, contexts and quotas.

use luassl_settings::NO_GRANT;
use std::sync::Arc;

/// An owner: the name of the control socket and the uid. A program can use what it created through the same socket as
/// the same user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    /// The name of the named control socket, or `control`.
    pub(crate) socket: Arc<str>,
    /// The user ID from SO_PEERCRED.
    pub(crate) uid: u32,
}

impl Owner {
    /// Returns the common owner of all callers without a grant. No control socket has an empty name, and no user has
    /// this number.
    pub(crate) fn ungranted() -> Self {
        Self { socket: "".into(), uid: NO_GRANT }
    }

    /// Returns a label that differs from the labels of all other owners.
    pub(crate) fn label(&self) -> Arc<str> {
        format!("{} {}", self.uid, self.socket).into()
    }
}
