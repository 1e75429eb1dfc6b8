//! Connections in stream mode: sockets, streams and listeners.

pub(crate) mod adopt;
pub(crate) mod listener;
pub(crate) mod pending_connection;
pub(crate) mod stream;
pub(crate) mod tcp;
