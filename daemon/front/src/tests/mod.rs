//! What the front's tests share: certificates, sessions, sockets. Everything waits within a bound, and no peer is
//! anything but OpenSSL itself.

pub(super) mod descriptors;
mod dispatcher;
mod handshakes;
pub(super) mod peers;
mod plaintext_socket;
mod requests;
pub(super) mod rig;
pub(super) mod whole;
