//! The sections of the configuration, each checked in a file of its own.

pub(crate) mod accounts;
pub(crate) mod fronts;
pub(crate) mod grants;
pub(crate) mod identities;
pub(crate) mod limits;
pub(crate) mod tickets;
