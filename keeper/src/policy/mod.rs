//! The rules for signing: which messages, how many, and for which fronts.

pub mod handshake_message;
pub(crate) mod permits;
pub(crate) mod rate;
pub mod scheme;
pub(crate) mod sign;
pub(crate) mod usage;
pub(crate) mod wire;
