//! Connections in stream mode: plaintext on a Unix socket, TLS on the network.

pub(crate) mod buffers;
pub(crate) mod plaintext_socket;
pub(crate) mod pump;
pub(crate) mod transport;
