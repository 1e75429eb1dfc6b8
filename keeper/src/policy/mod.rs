//! What is signed, how much of it, and for whom.

pub mod handshake_message;
pub(crate) mod permits;
pub(crate) mod rate;
pub mod scheme;
pub(crate) mod sign;
pub(crate) mod usage;
pub(crate) mod wire;
