//! What happens in handshakes, and what a peer may ask for in them and after them.

pub(crate) mod failure;
pub(crate) mod hello;
pub(crate) mod negotiated;
pub(crate) mod peer_bounds;
pub(crate) mod psk;
pub(crate) mod rekey;
