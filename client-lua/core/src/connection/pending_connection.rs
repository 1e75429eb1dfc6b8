//! An outgoing or attached connection whose handshake has not finished yet.

use crate::connection::adopt::Adopted;
use crate::connection::stream::Stream;
use crate::connection::tcp::{Dialer, Direction};
use crate::context::Context;
use crate::control::CallError;
use crate::deadline::{Deadline, Timeout};
use crate::error::Error;
use luassl_protocol::{Connect, Connecting, LuaCode, Mode, Request, Role};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::net::IpAddr;
use std::rc::Rc;

/// Parameters of the handshake.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The role of this side.
    pub role: Role,
    /// The name or address that the peer's certificate must contain; `None` disables the check.
    pub host: Option<String>,
    /// The server name to send; `None` sends `host` if that is a name.
    pub sni: Option<String>,
}

impl ConnectOptions {
    /// Returns the options of a client that connects to `address`. The peer's certificate must be for
    /// `expected`; `None` disables the check.
    #[must_use]
    pub fn client(address: &str, expected: Option<&str>) -> Self {
        let is_name = address.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
        let host = expected.map(|host| host.trim_matches(['[', ']']).to_owned());
        let sni = (host.is_none() && is_name).then(|| address.to_owned());
        Self { role: Role::Client, host, sni }
    }
}

/// A connection that is being established.
pub struct PendingConnection {
    context: Rc<Context>,
    options: ConnectOptions,
    /// The target; `None` for a socket that the program passed.
    target: Option<(String, u16)>,
    stage: Stage,
}

enum Stage {
    Dialing(Dialer),
    Handshake(Stream),
    Over,
}

impl PendingConnection {
    /// Resolves the name and begins to connect.
    ///
    /// # Errors
    /// Returns an error if the name has no address.
    pub fn dial(
        context: &Rc<Context>,
        address: &str,
        port: u16,
        options: ConnectOptions,
    ) -> Result<Self, Error> {
        let stage = Stage::Dialing(Dialer::new(address, port)?);
        Ok(Self { context: Rc::clone(context), options, target: Some((address.to_owned(), port)), stage })
    }

    /// Begins a handshake on a connected socket of the program. On success, the module owns the descriptor
    /// and closes it.
    ///
    /// # Errors
    /// Returns an error if the daemon refuses the connection. The program then still owns the socket.
    pub fn attach(
        context: &Rc<Context>,
        socket: Adopted,
        options: ConnectOptions,
        timeout: Timeout,
    ) -> Result<Self, Error> {
        let stream = begin(context, socket.as_fd(), &options, timeout.bounded(crate::control::REQUEST))
            .map_err(unanswered)?;
        drop(socket.into_owned());
        Ok(Self { context: Rc::clone(context), options, target: None, stage: Stage::Handshake(stream) })
    }

    /// Returns the descriptor to poll while the connection is not ready, and the event to poll for.
    #[must_use]
    pub fn descriptor(&self) -> Option<(BorrowedFd<'_>, Direction)> {
        match &self.stage {
            Stage::Dialing(dialer) => dialer.descriptor().map(|fd| (fd, Direction::Write)),
            Stage::Handshake(stream) => stream.descriptor().map(|fd| (fd, Direction::Read)),
            Stage::Over => None,
        }
    }

    /// Continues until the handshake has ended.
    ///
    /// # Errors
    /// Returns an error on timeout, after which it may be called again. Any other failure is final.
    pub fn advance(&mut self, timeout: Timeout) -> Result<Stream, Error> {
        let started = std::time::Instant::now();
        match self.step(started, timeout) {
            Err(error) if error.code != LuaCode::Timeout => {
                self.stage = Stage::Over;
                Err(error)
            }
            outcome => outcome,
        }
    }

    fn step(&mut self, started: std::time::Instant, timeout: Timeout) -> Result<Stream, Error> {
        if let Stage::Dialing(dialer) = &mut self.stage {
            let socket: OwnedFd = dialer.advance(timeout)?;
            let deadline = timeout.since(started).bounded(crate::control::REQUEST);
            let stream = begin(&self.context, socket.as_fd(), &self.options, deadline);
            self.stage = Stage::Handshake(stream.map_err(|error| self.not_begun(error))?);
        }
        if let Stage::Handshake(stream) = &mut self.stage {
            stream.handshake(timeout.since(started))?;
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Handshake(stream) => Ok(stream),
            _ => Err(Error::misuse("this connection has failed: connect again")),
        }
    }

    /// Handles a failed start. If the daemon does not answer in time, it already has the socket and may have
    /// written to it. A new TCP connection is therefore started.
    fn not_begun(&mut self, error: Error) -> Error {
        self.stage = Stage::Over;
        if error.code == LuaCode::Timeout
            && let Some((address, port)) = &self.target
        {
            match Dialer::new(address, *port) {
                Ok(dialer) => self.stage = Stage::Dialing(dialer),
                Err(gone) => return gone,
            }
        }
        error
    }
}

/// Converts a timeout to a different error. The daemon may have written to the socket, so it is no longer
/// usable. Programs would retry after a timeout.
fn unanswered(error: Error) -> Error {
    if error.code != LuaCode::Timeout {
        return error;
    }
    let message =
        "the daemon did not answer in time and may already use the socket: close it and open another one";
    Error::new(LuaCode::Daemon, message)
}

fn begin(
    context: &Rc<Context>,
    socket: BorrowedFd<'_>,
    options: &ConnectOptions,
    deadline: Deadline,
) -> Result<Stream, Error> {
    let answer = context.client().session(deadline, |session| {
        let request = Request::Connect(Connect {
            host: options.host.clone(),
            sni: options.sni.clone(),
            ..Connect::new(context.number(session)?, options.role, Mode::Stream)
        });
        let answer = session.call::<Connecting>(&request, Some(socket))?;
        let fd = answer.fd.ok_or_else(|| CallError::Garbage("no socket came with it".into()))?;
        Ok((answer.fields.token, fd))
    })?;
    Ok(Stream::awaiting(context.client(), answer.1, answer.0))
}
