//! A connection in lock-step mode: the program keeps its TCP socket and polls it; the daemon works on it on
//! request.

mod link;
mod outcome;
mod pattern;
mod spin;
mod times;
mod tls_socket;

pub use outcome::{Blocked, HandshakeOptions, HandshakeOutcome, Hello, Sent, Want};
pub use pattern::{Pattern, Received};
pub use times::Times;
pub use tls_socket::{Statistics, TlsSocket};
