//! Reports about a session, a peer and libssl.

pub(crate) mod capabilities;
pub(crate) mod peer;
pub(crate) mod session_report;
pub(crate) mod staple;
pub(crate) mod summary;
