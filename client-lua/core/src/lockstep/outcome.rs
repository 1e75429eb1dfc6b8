//! The options and results of calls on a connection in lock-step mode.

use crate::context::Context;
use luassl_protocol::{Dane, PskQuestion, Role};
use std::rc::Rc;

/// The reason why a call did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// The call can continue when the TCP socket is readable.
    WantRead,
    /// The call can continue when the TCP socket is writable.
    WantWrite,
    /// The connection has ended, or was never established.
    Closed,
    /// The call failed for this reason.
    Failed(String),
}

/// The event that the last call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// No event.
    Nothing,
    /// The socket is readable.
    Read,
    /// The socket is writable.
    Write,
}

/// The requests in a peer's ClientHello.
pub type Hello = luassl_protocol::ClientHello;

/// The state of a handshake after a call.
#[derive(Debug)]
pub enum HandshakeOutcome {
    /// The handshake has finished.
    Done,
    /// The ClientHello has arrived: continue with [`decide`](super::TlsSocket::decide).
    Hello(Hello),
    /// A pre-shared key is needed: continue with [`share`](super::TlsSocket::share).
    Psk(PskQuestion),
}

/// The result of a send.
#[derive(Debug)]
pub struct Sent {
    /// The number of bytes in records that the kernel has accepted completely.
    pub count: usize,
    /// The reason why the rest was not sent.
    pub blocked: Option<Blocked>,
}

/// Options for starting a connection.
pub struct HandshakeOptions {
    /// The context.
    pub context: Rc<Context>,
    /// The role of this side.
    pub role: Role,
    /// The name that the peer's certificate must contain.
    pub host: Option<String>,
    /// The server name to request.
    pub sni: Option<String>,
    /// The TLSA records that the server's certificate must match.
    pub dane: Option<Dane>,
    /// Whether to resume an earlier session with the same server.
    pub resume: bool,
}
