//! A TCP socket of the program, with TLS in the daemon and with LuaSec's behaviour: an operation that would
//! block returns the event that it waits for. Received data is buffered here, so that a check for it needs no
//! request to the daemon.

use crate::client::{Client, DaemonEpoch};
use crate::context::Context;
use crate::control::REQUEST;
use crate::deadline::Timeout;
use crate::error::Error;
use crate::lockstep::link::{ANSWER_CAPACITY, Link};
use crate::lockstep::outcome::{Blocked, HandshakeOptions, HandshakeOutcome, Sent, Want};
use crate::lockstep::pattern::{Matching, Pattern, Received};
use crate::lockstep::times::{Call, Times, Waited};
use luassl_protocol::{
    ErrorCode, Export, Exported, Facts, Info, LockStepAnswer, LockStepRequest, LockStepState,
    MAX_LOCK_STEP_DATA, Request,
};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, getpid};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Connected,
    Closed,
}

/// The action before the next request for data to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Ask,
    WaitRead,
    WaitWrite,
}

/// A TLS connection whose TCP socket belongs to the program.
pub struct TlsSocket {
    tcp: Option<OwnedFd>,
    link: Option<Link>,
    client: Rc<Client>,
    daemon_epoch: DaemonEpoch,
    process: Pid,
    stage: Stage,
    before: Before,
    /// Whether the daemon has data to read.
    pending: bool,
    want: Want,
    info: Info,
    buffer: Vec<u8>,
    /// The size of the consumed part of the buffer.
    taken: usize,
    /// The timeouts.
    pub times: Times,
    /// Byte counts and age.
    pub statistics: Statistics,
}

/// Byte counts and age of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Statistics {
    /// The number of received bytes.
    pub received: u64,
    /// The number of sent bytes.
    pub sent: u64,
    started: Option<Instant>,
}

impl Statistics {
    /// Creates the statistics of a connection with the given age.
    #[must_use]
    pub fn new(received: u64, sent: u64, age: Duration) -> Self {
        Self { received, sent, started: Instant::now().checked_sub(age) }
    }

    /// Returns the age of the connection.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| started.elapsed())
    }
}

impl TlsSocket {
    /// Creates a connection, which takes ownership of the socket.
    #[must_use]
    pub fn new(client: &Rc<Client>, tcp: Option<OwnedFd>) -> Self {
        Self {
            tcp,
            link: None,
            client: Rc::clone(client),
            daemon_epoch: client.daemon_epoch(),
            process: getpid(),
            stage: Stage::New,
            before: Before::WaitRead,
            pending: false,
            want: Want::Nothing,
            info: Info::default(),
            buffer: Vec::new(),
            taken: 0,
            times: Times::default(),
            statistics: Statistics::new(0, 0, Duration::ZERO),
        }
    }

    /// Sets the socket of a connection that has not begun. Returns false if it has begun.
    pub fn adopt(&mut self, tcp: OwnedFd) -> bool {
        let fresh = self.stage == Stage::New && self.link.is_none();
        if fresh {
            self.tcp = Some(tcp);
        }
        fresh
    }

    /// Returns the TCP socket; `None` after the connection was closed.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.tcp.as_ref().map(AsFd::as_fd)
    }

    /// Returns the peer's address.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        let address = rustix::net::getpeername(self.tcp.as_ref()?).ok()??;
        SocketAddr::try_from(address).ok()
    }

    /// Returns the local address.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getsockname(self.tcp.as_ref()?).ok()?).ok()
    }

    /// Returns whether a handshake has been finished.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.stage == Stage::Connected
    }

    /// Returns whether this side has closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Returns whether the daemon has the socket.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.link.is_some()
    }

    /// Returns whether data can be received that the readiness of the socket does not indicate.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.taken < self.buffer.len() || self.pending
    }

    /// Returns the event that the last call waits for.
    #[must_use]
    pub fn want(&self) -> Want {
        self.want
    }

    /// Returns the information that came with the end of the handshake.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Passes the socket to the daemon.
    ///
    /// # Errors
    /// Returns an error if the daemon refuses the connection.
    pub fn begin(&mut self, options: &HandshakeOptions) -> Result<(), Error> {
        let Some(tcp) = &self.tcp else { return Err(Error::misuse("closed")) };
        self.client = Rc::clone(options.context.client());
        self.link = Some(Link::begin(options, tcp.as_fd())?);
        self.daemon_epoch = self.client.daemon_epoch();
        Ok(())
    }

    /// Continues the handshake.
    ///
    /// # Errors
    /// Returns the event that it waits for, or the reason why it failed.
    pub fn handshake(&mut self, scratch: &mut Vec<u8>) -> Result<HandshakeOutcome, Blocked> {
        self.advance_handshake(&LockStepRequest::Handshake, scratch)
    }

    /// Continues after [`HandshakeOutcome::Hello`], optionally with another context.
    ///
    /// # Errors
    /// As [`TlsSocket::handshake`].
    pub fn decide(
        &mut self,
        context: Option<&Rc<Context>>,
        alpn: Option<&str>,
        refuse: bool,
        scratch: &mut Vec<u8>,
    ) -> Result<HandshakeOutcome, Blocked> {
        let number = context.map(|context| {
            let deadline = Timeout::After(REQUEST).deadline();
            self.client.session(deadline, |session| context.number(session))
        });
        let context = number.transpose().map_err(|error| Blocked::Failed(error.message))?;
        self.advance_handshake(&LockStepRequest::ClientHello { context, alpn, refuse }, scratch)
    }

    /// Continues after [`HandshakeOutcome::Psk`], with a key (and for clients its identity) or without.
    ///
    /// # Errors
    /// As [`TlsSocket::handshake`].
    pub fn share(
        &mut self,
        identity: Option<&[u8]>,
        key: Option<&[u8]>,
        scratch: &mut Vec<u8>,
    ) -> Result<HandshakeOutcome, Blocked> {
        self.advance_handshake(&LockStepRequest::Psk { identity, key }, scratch)
    }

    fn advance_handshake(
        &mut self,
        question: &LockStepRequest<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<HandshakeOutcome, Blocked> {
        let call = self.times.call();
        let mut question = question.clone();
        loop {
            let mut answer = self.ask(&question, scratch)?;
            if answer.state == LockStepState::NeedClientHello {
                return Ok(HandshakeOutcome::Hello(answer.client_hello.unwrap_or_default()));
            }
            if answer.state == LockStepState::NeedPsk {
                return Ok(HandshakeOutcome::Psk(answer.psk.unwrap_or_default()));
            }
            let (info, pending) = (answer.info.take(), answer.pending);
            match blocked(&answer) {
                None => {
                    self.stage = Stage::Connected;
                    self.want = Want::Nothing;
                    self.expect(pending);
                    self.info = info.unwrap_or_default();
                    return Ok(HandshakeOutcome::Done);
                }
                Some(blocked) => self.wait_for(&call, blocked)?,
            }
            question = LockStepRequest::Handshake;
        }
    }

    fn ask<'s>(
        &mut self,
        question: &LockStepRequest<'_>,
        scratch: &'s mut Vec<u8>,
    ) -> Result<LockStepAnswer<'s>, Blocked> {
        let link = self.link.as_mut().ok_or(Blocked::Closed)?;
        scratch.resize(ANSWER_CAPACITY, 0);
        // Without the daemon, the connection has ended.
        link.ask(question, scratch).map_err(|_| Blocked::Closed)
    }

    /// Waits until the socket is readable or writable, within the timeout of the call. If `blocked` has
    /// another reason, returns it at once.
    fn wait_for(&mut self, call: &Call, blocked: Blocked) -> Result<(), Blocked> {
        let flags = match blocked {
            Blocked::WantRead => PollFlags::IN,
            Blocked::WantWrite => PollFlags::OUT,
            _ => {
                self.want = Want::Nothing;
                return Err(blocked);
            }
        };
        self.want = if flags == PollFlags::IN { Want::Read } else { Want::Write };
        let tcp = self.tcp.as_ref().ok_or(Blocked::Closed)?;
        match call.wait(tcp.as_fd(), flags) {
            Waited::Ready => Ok(()),
            Waited::Timeout => Err(blocked),
            Waited::Broken => Err(Blocked::Closed),
        }
    }

    /// Receives the data that the pattern requests.
    pub fn receive(&mut self, pattern: Pattern, prefix: &[u8], scratch: &mut Vec<u8>) -> Received {
        let call = self.times.call();
        let mut matching = Matching::new(pattern, prefix);
        if let Pattern::Count(count) = pattern
            && !prefix.is_empty()
            && count <= prefix.len()
        {
            return matching.finish(None);
        }
        loop {
            if self.taken == self.buffer.len()
                && let Err(blocked) = self.fill(&call, scratch)
            {
                return matching.finish(Some(blocked));
            }
            let (taken, done) = matching.take(&self.buffer[self.taken..]);
            self.taken += taken;
            self.statistics.received += taken as u64;
            if done {
                return matching.finish(None);
            }
        }
    }

    /// Waits for data if necessary, and reads everything that the daemon has.
    fn fill(&mut self, call: &Call, scratch: &mut Vec<u8>) -> Result<(), Blocked> {
        if self.stage != Stage::Connected {
            return Err(Blocked::Closed);
        }
        loop {
            match self.before {
                Before::Ask => {}
                Before::WaitRead => self.wait_for(call, Blocked::WantRead)?,
                Before::WaitWrite => self.wait_for(call, Blocked::WantWrite)?,
            }
            let max = u32::try_from(MAX_LOCK_STEP_DATA).unwrap_or(u32::MAX);
            self.buffer.clear();
            self.taken = 0;
            let answer = self.ask(&LockStepRequest::Read { max }, scratch);
            // After a failure, the next read reports it again.
            self.before = Before::Ask;
            self.pending = false;
            let answer = answer?;
            let (data, pending, blocked) = (answer.data, answer.pending, blocked(&answer));
            match blocked {
                None => {
                    self.buffer.extend_from_slice(data.map_or(&[][..], |data| &data[..]));
                    self.expect(pending);
                    self.want = Want::Nothing;
                    return Ok(());
                }
                Some(Blocked::WantRead) => self.before = Before::WaitRead,
                Some(Blocked::WantWrite) => self.before = Before::WaitWrite,
                Some(end) => {
                    self.want = Want::Nothing;
                    return Err(end);
                }
            }
        }
    }

    fn expect(&mut self, pending: bool) {
        self.pending = pending;
        self.before = if pending { Before::Ask } else { Before::WaitRead };
    }

    /// Sends data.
    pub fn send(&mut self, data: &[u8], scratch: &mut Vec<u8>) -> Sent {
        let call = self.times.call();
        let mut count = 0;
        if self.stage != Stage::Connected {
            return Sent { count, blocked: Some(Blocked::Closed) };
        }
        while count < data.len() {
            let part = &data[count..data.len().min(count + MAX_LOCK_STEP_DATA)];
            let answer = match self.ask(&LockStepRequest::Write { data: part }, scratch) {
                Ok(answer) => answer,
                Err(blocked) => return Sent { count, blocked: Some(blocked) },
            };
            let (taken, blocked) = (answer.taken.unwrap_or(0) as usize, blocked(&answer));
            count += taken;
            self.statistics.sent += taken as u64;
            self.want = Want::Nothing;
            if let Some(blocked) = blocked
                && let Err(blocked) = self.wait_for(&call, blocked)
            {
                return Sent { count, blocked: Some(blocked) };
            }
        }
        Sent { count, blocked: None }
    }

    /// Sends close_notify. Returns whether the close_notify of the peer has also been received.
    ///
    /// # Errors
    /// Returns the event to wait for, or the reason why it failed. This call itself does not wait.
    pub fn shutdown(&mut self, scratch: &mut Vec<u8>) -> Result<bool, Blocked> {
        if self.stage != Stage::Connected {
            return Err(Blocked::Closed);
        }
        let answer = self.ask(&LockStepRequest::Shutdown, scratch)?;
        blocked(&answer).map_or(Ok(answer.complete.unwrap_or(false)), Err)
    }

    /// Returns all information about the session.
    ///
    /// # Errors
    /// Returns an error if the connection has ended.
    pub fn facts(&mut self, scratch: &mut Vec<u8>) -> Result<Facts, Blocked> {
        let answer = self.ask(&LockStepRequest::Facts, scratch)?;
        answer.facts.map(|facts| *facts).ok_or(Blocked::Closed)
    }

    /// Returns keying material (RFC 5705).
    ///
    /// # Errors
    /// Returns an error if the connection has ended, or if the daemon refuses the length.
    pub fn export(&mut self, label: &str, length: u32, context: Option<&[u8]>) -> Result<Vec<u8>, Error> {
        let link = self.link.as_ref().ok_or_else(|| Error::misuse("closed"))?;
        let context = context.map(|bytes| bytes.to_vec().into());
        let request = Request::Export(Export { token: link.token, label: label.into(), length, context });
        let deadline = Timeout::After(REQUEST).deadline();
        Ok(self.client.ask_about::<Exported>(&request, self.daemon_epoch, deadline)?.data)
    }

    /// Ends the connection. Sends close_notify if this is possible without waiting, then closes the TCP
    /// connection.
    pub fn close(&mut self, scratch: &mut Vec<u8>) {
        if self.stage == Stage::Connected {
            // No answer means that the daemon has exited, and that the connection has ended.
            let _ = self.ask(&LockStepRequest::Close, scratch);
        }
        self.link = None;
        self.tcp = None;
        self.buffer = Vec::new();
        self.taken = 0;
        self.pending = false;
        self.stage = Stage::Closed;
    }

    /// Returns the TCP socket to the program without closing it.
    pub fn release(&mut self) -> Option<OwnedFd> {
        self.link = None;
        self.stage = Stage::Closed;
        self.tcp.take()
    }
}

impl Drop for TlsSocket {
    /// Like `close`, but does not wait. A forked child sends nothing, because the connection belongs to its
    /// parent.
    fn drop(&mut self) {
        if let Some(link) = &self.link
            && self.stage == Stage::Connected
            && self.process == getpid()
        {
            link.tell(&LockStepRequest::Close);
        }
    }
}

/// Returns the reason why the operation cannot continue after this answer.
fn blocked(answer: &LockStepAnswer<'_>) -> Option<Blocked> {
    match answer.state {
        LockStepState::Ok => None,
        LockStepState::WantRead => Some(Blocked::WantRead),
        LockStepState::WantWrite => Some(Blocked::WantWrite),
        LockStepState::NeedClientHello | LockStepState::NeedPsk => {
            Some(Blocked::Failed("unexpected question of the daemon".into()))
        }
        LockStepState::Error => Some(failure(answer)),
    }
}

fn failure(answer: &LockStepAnswer<'_>) -> Blocked {
    let error = answer.error.as_ref();
    match (&answer.reason, error.map(|error| error.code)) {
        (Some(reason), _) => Blocked::Failed(reason.clone()),
        (None, Some(ErrorCode::Closed | ErrorCode::Cut) | None) => Blocked::Closed,
        (None, Some(_)) => Blocked::Failed(error.map(|error| error.message.clone()).unwrap_or_default()),
    }
}
