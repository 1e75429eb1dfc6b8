//! The handshake, and the limits on the requests of a peer during and after it.

pub(crate) mod failure;
pub(crate) mod hello;
pub(crate) mod negotiated;
pub(crate) mod peer_bounds;
pub(crate) mod psk;
pub(crate) mod rekey;
