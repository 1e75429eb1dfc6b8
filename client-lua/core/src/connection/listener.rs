//! A listener: the program's listening socket or one of the daemon, and its delivery socket.

use crate::client::Client;
use crate::connection::stream::Stream;
use crate::connection::tcp;
use crate::context::Context;
use crate::control::{CallError, request_deadline};
use crate::deadline::Timeout;
use crate::error::Error;
use crate::transport::{receive, send};
use luassl_protocol::{Bind, Bound, Delivery, Failure, LuaCode, MAX_RESULT, Request, from_body, holder};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, shutdown};
use rustix::process::{Pid, getpid};
use std::rc::Rc;
use std::time::Duration;

/// The number of connections that a polled listener requests in advance.
const PREFETCH: usize = 4;

/// The time that a close waits for the daemon to release the listener.
const RELEASE: Duration = Duration::from_secs(1);

/// The possible results of an accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptFilter {
    /// Connections only.
    Connections,
    /// Connections and failed handshakes.
    Reports,
}

/// The result of an accept.
pub enum Accepted {
    /// A finished connection.
    Connection(Box<Stream>),
    /// A failed handshake; only with [`AcceptFilter::Reports`].
    Failed(Failure),
}

/// A listener of this program.
pub struct Listener {
    context: Rc<Context>,
    source: Source,
    address: String,
    holding: Option<Holding>,
}

enum Source {
    Configured(String),
    Own(OwnedFd),
}

/// A delivery socket and its pending requests. It belongs to one process: after a fork, the child needs its
/// own.
struct Holding {
    socket: OwnedFd,
    process: Pid,
    asked: usize,
    reports: usize,
}

impl Listener {
    /// Listens on `port` (0: any free port) of `address`, or of all addresses.
    ///
    /// # Errors
    /// Returns an error if the port is not available, or if the daemon refuses the listener.
    pub fn bind(context: &Rc<Context>, port: u16, address: Option<&str>) -> Result<Self, Error> {
        let socket = tcp::listener(port, address)?;
        let local = tcp::local_address(socket.as_fd());
        let address = local.map(|address| address.to_string()).unwrap_or_default();
        Self::hold(context, Source::Own(socket), address)
    }

    /// Uses the listener `name` of the daemon's configuration.
    ///
    /// # Errors
    /// Returns an error if the listener is unknown, not granted, or in use with other settings.
    pub fn configured(context: &Rc<Context>, name: &str) -> Result<Self, Error> {
        Self::hold(context, Source::Configured(name.to_owned()), String::new())
    }

    fn hold(context: &Rc<Context>, source: Source, address: String) -> Result<Self, Error> {
        let mut listener = Self { context: Rc::clone(context), source, address, holding: None };
        listener.ready()?;
        Ok(listener)
    }

    /// Returns the bound address, `address:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the delivery socket, which is readable when a connection is ready. Because the caller is going
    /// to poll it, this function requests connections: without a request, the daemon delivers none.
    pub fn descriptor(&mut self, timeout: Timeout) -> Option<BorrowedFd<'_>> {
        // The next accept reports a lost daemon.
        let _ = self.prepare(if timeout.is_zero() { PREFETCH } else { 1 });
        self.holding.as_ref().map(|holding| holding.socket.as_fd())
    }

    /// Requests connections in advance, so that the descriptor becomes readable.
    ///
    /// # Errors
    /// Returns an error if the daemon cannot be reached.
    pub fn prefetch(&mut self) -> Result<(), Error> {
        self.prepare(PREFETCH)
    }

    fn prepare(&mut self, wanted: usize) -> Result<(), Error> {
        let holding = self.ready()?;
        let missing = wanted.saturating_sub(holding.asked);
        holding.ask(missing, AcceptFilter::Connections)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Returns an error on timeout. Reports the loss of the daemon once; the next call passes the listener to
    /// the new daemon.
    pub fn accept(&mut self, filter: AcceptFilter, timeout: Timeout) -> Result<Accepted, Error> {
        let outcome = self.next(filter, timeout);
        if let Err(error) = &outcome
            && error.code == LuaCode::Daemon
        {
            self.holding = None;
        }
        outcome
    }

    fn next(&mut self, filter: AcceptFilter, timeout: Timeout) -> Result<Accepted, Error> {
        let deadline = timeout.deadline();
        let flags = if timeout == Timeout::Never { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let client = Rc::clone(self.context.client());
        loop {
            let holding = self.ready()?;
            holding.ask_for(filter, timeout)?;
            let mut message = [0; MAX_RESULT];
            let received = loop {
                match receive(holding.socket.as_fd(), &mut message, flags) {
                    Ok(received) => break received,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => match deadline.wait(holding.socket.as_fd(), PollFlags::IN) {
                        Ok(true) => {}
                        Ok(false) => return Err(Error::timeout("no connection yet")),
                        Err(_) => return Err(lost()),
                    },
                    Err(_) => return Err(lost()),
                }
            };
            if received.length == 0 {
                return Err(lost());
            }
            holding.arrived();
            if received.truncated {
                // The delivery is confirmed anyway. Otherwise the next confirmation would count for this one.
                // For the peer, the connection is cut.
                holding.say(&[holder::TAKEN])?;
                return Err(Error::new(
                    LuaCode::Refused,
                    "cannot take a connection: this process has too many open descriptors",
                ));
            }
            let delivery: Delivery = from_body(&message[..received.length]).map_err(|_| lost())?;
            match (delivery.result.error, received.fd) {
                (None, Some(fd)) => {
                    holding.say(&[holder::TAKEN])?;
                    let info = delivery.result.info.unwrap_or_default();
                    let stream = Stream::established(&client, fd, delivery.token, info);
                    return Ok(Accepted::Connection(Box::new(stream)));
                }
                (Some(failure), _) => {
                    holding.reports = holding.reports.saturating_sub(1);
                    if filter == AcceptFilter::Reports {
                        return Ok(Accepted::Failed(failure));
                    }
                }
                (None, None) => return Err(lost()),
            }
        }
    }

    /// Closes the listener and waits up to 1 s until the daemon has also released it. After that, the address
    /// is free.
    pub fn close(self) {
        let Some(holding) = self.holding else { return };
        if holding.process != getpid() || shutdown(&holding.socket, Shutdown::Write).is_err() {
            return;
        }
        let deadline = Timeout::After(RELEASE).deadline();
        while !deadline.passed() && matches!(deadline.wait(holding.socket.as_fd(), PollFlags::IN), Ok(true)) {
            // Unconfirmed deliveries are sent to another holder.
            match receive(holding.socket.as_fd(), &mut [0; 1], RecvFlags::DONTWAIT) {
                Ok(received) if received.length > 0 => {}
                Err(Errno::INTR | Errno::AGAIN) => {}
                _ => return,
            }
        }
    }

    /// Returns the delivery socket of this process. Requests it from the daemon if there is none.
    fn ready(&mut self) -> Result<&mut Holding, Error> {
        let process = getpid();
        let holding = match self.holding.take() {
            Some(holding) if holding.process == process => holding,
            _ => {
                let (holding, address) = request(&self.context, &self.source, process)?;
                if matches!(self.source, Source::Configured(_)) || self.address.is_empty() {
                    self.address = address;
                }
                holding
            }
        };
        Ok(self.holding.insert(holding))
    }
}

impl Holding {
    /// Sends the requests that the next receive needs.
    fn ask_for(&mut self, filter: AcceptFilter, timeout: Timeout) -> Result<(), Error> {
        if filter == AcceptFilter::Reports && self.reports == 0 {
            return self.ask(1, filter);
        }
        let wanted = if timeout.is_zero() { PREFETCH } else { 1 };
        self.ask(wanted.saturating_sub(self.asked), filter)
    }

    fn ask(&mut self, count: usize, filter: AcceptFilter) -> Result<(), Error> {
        let byte = if filter == AcceptFilter::Reports { holder::ASK_REPORT } else { holder::ASK };
        let bytes = [byte; PREFETCH];
        self.say(&bytes[..count.min(PREFETCH)])?;
        self.asked += count.min(PREFETCH);
        self.reports += if filter == AcceptFilter::Reports { count.min(PREFETCH) } else { 0 };
        Ok(())
    }

    fn arrived(&mut self) {
        self.asked = self.asked.saturating_sub(1);
        self.reports = self.reports.min(self.asked);
    }

    fn say(&self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        loop {
            match send(self.socket.as_fd(), bytes, None, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(lost()),
            }
        }
    }
}

fn request(context: &Rc<Context>, source: &Source, process: Pid) -> Result<(Holding, String), Error> {
    let client: &Rc<Client> = context.client();
    client.repeatable_session(request_deadline(), |session| {
        let (listener, fd) = match source {
            Source::Configured(name) => (Some(name.clone()), None),
            Source::Own(socket) => (None, Some(socket.as_fd())),
        };
        let request = Request::Bind(Bind { context: context.number(session)?, listener });
        let answer = session.call::<Bound>(&request, fd)?;
        let socket = answer.fd.ok_or_else(|| CallError::Garbage("no socket came with it".into()))?;
        Ok((Holding { socket, process, asked: 0, reports: 0 }, answer.fields.address))
    })
}

fn lost() -> Error {
    Error::new(LuaCode::Daemon, "the daemon went away: the next accept passes the listener to it again")
}
