//! Identities as a push contains them: keys with their certificates, and the roots of ticket keys.

pub(crate) mod chain;
pub(crate) mod identity;
pub(crate) mod key_shape;
pub(crate) mod registry;
pub(crate) mod staple;
pub(crate) mod tickets;
