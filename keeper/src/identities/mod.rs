//! Identities as they are pushed: keys with their certificates, and the roots of tickets.

pub(crate) mod chain;
pub(crate) mod identity;
pub(crate) mod key_shape;
pub(crate) mod registry;
pub(crate) mod staple;
pub(crate) mod tickets;
