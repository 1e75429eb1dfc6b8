//! The options and results of calls on a connection in lock-step mode.

use crate::context::Context;
use luassl_protocol::{Dane, PskQuestion, Role};
use std::rc::Rc;

/// Why a call did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// It can continue when the TCP socket is readable.
    WantRead,
    /// It can continue when the TCP socket is writable.
    WantWrite,
    /// The connection has ended, or was never established.
    Closed,
    /// It failed for this reason.
    Failed(String),
}

/// What the last call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Nothing.
    Nothing,
    /// To read.
    Read,
    /// To write.
    Write,
}

/// What a peer's ClientHello asks for.
pub type Hello = luassl_protocol::ClientHello;

/// The state of a handshake after a call.
#[derive(Debug)]
pub enum HandshakeOutcome {
    /// It has finished.
    Done,
    /// The ClientHello has arrived: continue with [`decide`](super::TlsSocket::decide).
    Hello(Hello),
    /// A pre-shared key is needed: continue with [`share`](super::TlsSocket::share).
    Psk(PskQuestion),
}

/// The result of a send.
#[derive(Debug)]
pub struct Sent {
    /// How many bytes are in records that the kernel has taken completely.
    pub count: usize,
    /// Why the rest was not sent.
    pub blocked: Option<Blocked>,
}

/// Options for starting a connection.
pub struct HandshakeOptions {
    /// The context.
    pub context: Rc<Context>,
    /// The side to play.
    pub role: Role,
    /// The name that the peer's certificate must carry.
    pub host: Option<String>,
    /// The server name to ask for.
    pub sni: Option<String>,
    /// The TLSA records that the server's certificate must match.
    pub dane: Option<Dane>,
    /// Whether to resume an earlier session with the same server.
    pub resume: bool,
}
