//! The sections of the configuration. Each is checked in its own file.

pub(crate) mod accounts;
pub(crate) mod fronts;
pub(crate) mod grants;
pub(crate) mod identities;
pub(crate) mod limits;
pub(crate) mod tickets;
