//! The process that holds private keys and signs handshakes.
