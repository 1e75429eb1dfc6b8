//! What the front's tests share: certificates, sessions, sockets. Each wait has a time limit, and each peer is OpenSSL
//! itself.

pub(super) mod descriptors;
mod dispatcher;
mod handshakes;
pub(super) mod peers;
mod plaintext_socket;
mod requests;
pub(super) mod rig;
pub(super) mod whole;
