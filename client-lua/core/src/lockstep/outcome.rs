//! What a call on a connection in lock-step mode comes to, and what it begins with.

use crate::context::Context;
use luassl_protocol::{Dane, PskQuestion, Role};
use std::rc::Rc;

/// Why a call has not done all that it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// It goes on when the TCP socket is readable.
    WantRead,
    /// It goes on when the TCP socket is writable.
    WantWrite,
    /// The connection has ended, or was never there.
    Closed,
    /// It has failed, for this reason.
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

/// How far a handshake has come.
#[derive(Debug)]
pub enum HandshakeOutcome {
    /// To its end.
    Done,
    /// To the ClientHello: [`decide`](super::TlsSocket::decide) goes on.
    Hello(Hello),
    /// To the choice of a key that the peer has too: [`share`](super::TlsSocket::share) goes on.
    Psk(PskQuestion),
}

/// What a send came to.
#[derive(Debug)]
pub struct Sent {
    /// How many bytes lie in records that are wholly in the kernel.
    pub count: usize,
    /// Why these are not all.
    pub blocked: Option<Blocked>,
}

/// How a connection is begun.
pub struct HandshakeOptions {
    /// The context.
    pub context: Rc<Context>,
    /// The side to play.
    pub role: Role,
    /// The name that the peer's certificate must carry.
    pub host: Option<String>,
    /// The server name to ask for.
    pub sni: Option<String>,
    /// The records that the server's certificate must go with.
    pub dane: Option<Dane>,
    /// Whether a former session with the same server is taken up.
    pub resume: bool,
}
