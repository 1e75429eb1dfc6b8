//! What is said of a session, of a peer and of libssl.

pub(crate) mod capabilities;
pub(crate) mod peer;
pub(crate) mod session_report;
pub(crate) mod staple;
pub(crate) mod summary;
