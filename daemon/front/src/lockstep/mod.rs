//! Connections in lock-step mode: Lua keeps its TCP socket and polls it; the front works on a duplicate, only between a
//! question on the connection's socket and its answer, and never waits for the network in between.
//!
//! A handshake lives on a thread that may wait for the keeper, an established connection on one that may not; what
//! signs later moves to the first and back.

mod asking;
mod frame;
mod non_blocking_tcp;
mod session;
mod spin;

use crate::{
    authorization::{admission, authority::Authority, quota::QuotaGuard},
    context::ContextTable,
    handshake,
    runtime::{
        ConnectionRuntime,
        connection::{Command, Connection, Stage},
        readiness::Detachable,
        sockets::{self, ClientSocket},
        tcp::Tcp,
        workers::{self, Job},
    },
};
use asking::Asking;
use frame::whole;
use luassl_protocol::{
    ErrorCode, FRAME_HEADER, Failure, LockStepAnswer, LockStepRequest, MAX_LOCK_STEP_FRAME, MAX_SPIN_DATA,
};
use luassl_tls::{self as tls, Decision, Floors};
use openssl::ssl::{Ssl, SslContext};
use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use session::Session;
use session::{Answered, frame, invalid};
use spin::{After, Look, SpinPolicy};
use std::{
    cell::RefCell,
    io,
    sync::Arc,
    task::{self, Poll},
    thread,
};
use tokio::{
    task::yield_now,
    time::{Instant, timeout, timeout_at},
};

/// A connection with its session.
pub(super) struct LockStep {
    authority: Arc<Authority>,
    runtime: Arc<ConnectionRuntime>,
    connection: Arc<Connection>,
    session: Session,
    lua: Detachable<ClientSocket>,
    /// A question that has not arrived whole, or that waits for another thread.
    inbox: Vec<u8>,
    handshaking: Option<Handshaking>,
    /// When a question that has not arrived whole has to be there.
    whole_until: Option<Instant>,
    /// When a handshake that has a thread of its own has to be over.
    apart_until: Option<Instant>,
    spin: SpinPolicy,
}

/// What is held while the handshake lasts.
pub(super) struct Handshaking {
    /// Its part of the bound on handshakes.
    pub(super) _slot: QuotaGuard,
    /// The contexts that may be decided on.
    pub(super) contexts: ContextTable,
    /// What the grant of the context demands that it began with.
    pub(super) floors: Floors,
    /// Its part of the bound on handshakes with a thread of their own; none where it has no such thread.
    pub(super) dedicated_thread: Option<QuotaGuard>,
}

impl LockStep {
    /// # Errors
    /// When OpenSSL has no memory left.
    pub(super) fn new(
        (authority, runtime): (Arc<Authority>, Arc<ConnectionRuntime>),
        connection: Arc<Connection>,
        (ssl, tcp): (Ssl, Tcp),
        lua: ClientSocket,
        handshaking: Handshaking,
    ) -> Result<Self, Failure> {
        let session = Session::new(ssl, tcp).map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("no session for a connection: {error}"))
        })?;
        let (lua, inbox, handshaking) = (Detachable::Parked(lua), Vec::new(), Some(handshaking));
        let (whole_until, apart_until, spin) = (None, None, SpinPolicy::new());
        Ok(Self {
            authority,
            runtime,
            connection,
            session,
            lua,
            inbox,
            handshaking,
            whole_until,
            apart_until,
            spin,
        })
    }

    /// Runs the connection to its end, beginning on a thread that may sign.
    ///
    /// # Errors
    /// When there are no descriptors or threads left for a handshake that needs a thread of its own.
    pub(super) fn start(self) -> Result<(), Failure> {
        if self.handshaking.as_ref().is_some_and(|handshaking| handshaking.dedicated_thread.is_some()) {
            return self.start_apart();
        }
        let runtime = Arc::clone(&self.runtime);
        runtime.handshake_workers.spawn(self.into_job(true));
        Ok(())
    }

    /// The handshake may ask the client, and wait.
    fn start_apart(mut self) -> Result<(), Failure> {
        let until = Instant::now() + self.authority.limits().handshake();
        self.apart_until = Some(until);
        let limit = |error: io::Error| {
            Failure::new(ErrorCode::Limit, format!("no thread for a handshake of its own: {error}"))
        };
        let lua = self.lua.get().map(ClientSocket::copy);
        let lua = lua.unwrap_or_else(|| Err(Errno::NOTCONN.into())).map_err(limit)?;
        let asking = Asking { lua, until: until.into_std() };
        tls::ask_for_keys_by(self.session.ssl(), Some(Arc::new(move |question| asking.ask(question))));
        workers::run_apart("luassl-psk", self.into_job(true)).map_err(limit)
    }

    fn into_job(self, signing: bool) -> Job {
        Box::pin(self.run(signing))
    }
}

/// What comes next for a connection.
enum Next {
    /// The next question, on this thread.
    Ask,
    /// The present question, on a thread that may sign.
    Sign,
    /// The connection is over.
    Over,
}

/// What has to be seen to.
enum Event {
    Readable,
    Command(Command),
    Gone,
}

thread_local! {
    static SCRATCH: RefCell<Option<Box<[u8]>>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's buffer for questions.
fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let fresh = || vec![0; FRAME_HEADER + MAX_LOCK_STEP_FRAME].into_boxed_slice();
    let mut scratch = SCRATCH.with_borrow_mut(Option::take).unwrap_or_else(fresh);
    let outcome = work(&mut scratch);
    SCRATCH.with_borrow_mut(|slot| *slot = Some(scratch));
    outcome
}

/// An answer to send, and whether the connection ends with it.
struct Reply {
    frame: Vec<u8>,
    last: bool,
}

/// What a receive came to.
enum Turn {
    Reply(Reply),
    NeedsSignature,
    /// The decision at the ClientHello, for another context: that may have to be made first.
    Decides {
        context: u64,
        alpn: Option<String>,
        refuse: bool,
    },
    /// The question is not there whole.
    Wait,
    Gone,
}

impl LockStep {
    async fn run(mut self, signing: bool) {
        let next = match self.lua.register() {
            Ok(()) => self.serve_in_time(signing).await,
            Err(error) => {
                tracing::error!("a lock-step connection cannot be served: {error}");
                Next::Over
            }
        };
        match next {
            Next::Over => self.over(),
            Next::Sign | Next::Ask => {
                let runtime = Arc::clone(&self.runtime);
                self.lua.detach();
                let workers = if signing { &runtime.pumps } else { &runtime.handshake_workers };
                workers.spawn(self.into_job(!signing));
            }
        }
    }

    fn over(mut self) {
        if let Some(failure) = self.session.failure() {
            self.connection.record_end(failure.clone());
        }
        self.lua.close();
        self.runtime.connections.leave(&self.connection);
    }

    /// As [`LockStep::serve`], within the deadline of a handshake that has this thread for itself.
    async fn serve_in_time(&mut self, signing: bool) -> Next {
        let Some(until) = self.apart_until else { return self.serve(signing).await };
        match timeout_at(until, self.serve(signing)).await {
            Ok(next) => next,
            Err(_) => self.late(handshake::not_in_time(self.authority.limits().handshake())),
        }
    }

    fn late(&self, failure: Failure) -> Next {
        self.connection.record_end(failure);
        Next::Over
    }

    /// Answers questions as long as this thread is the right one.
    async fn serve(&mut self, signing: bool) -> Next {
        if signing && let Ok(Some(_)) = whole(&self.inbox) {
            // The question that this thread was needed for.
            let turn = self.carry_out_kept();
            match self.finish(turn).await {
                Next::Ask => {}
                next => return next,
            }
        }
        loop {
            if signing && !self.session.is_handshaking() {
                return Next::Ask;
            }
            let event = match self.whole_until {
                None => self.event().await,
                Some(until) => match timeout_at(until, self.event()).await {
                    Ok(event) => event,
                    Err(_) => {
                        let message = "half a question, and no more in time ([limits] request)";
                        return self.late(Failure::new(ErrorCode::Timeout, message));
                    }
                },
            };
            let next = match event {
                Event::Readable => {
                    let turn = self.receive();
                    self.mind_the_rest(&turn);
                    self.finish(turn).await
                }
                Event::Command(command) => self.command(command),
                Event::Gone => Next::Over,
            };
            match next {
                Next::Ask => {}
                next => return next,
            }
        }
    }

    /// A question that has begun to arrive has a deadline.
    fn mind_the_rest(&mut self, turn: &Turn) {
        let half = matches!(turn, Turn::Wait) && !self.inbox.is_empty();
        let until = || Instant::now() + self.authority.limits().request();
        self.whole_until = half.then(|| self.whole_until.unwrap_or_else(until));
    }

    /// The next thing to see to, after an answer.
    async fn event(&mut self) -> Event {
        let answered = std::time::Instant::now();
        let event = match self.look(answered).await {
            Some(event) => event,
            None => std::future::poll_fn(|cx| self.poll_event(cx)).await,
        };
        if matches!(event, Event::Readable) {
            self.spin.came(answered.elapsed());
        }
        event
    }

    /// Looks for it without going to sleep, where that is likely to pay. Every other connection of this thread, and every
    /// other process, has its turn between two looks.
    async fn look(&mut self, now: std::time::Instant) -> Option<Event> {
        let look = Look::begin(now, self.spin.look()?)?;
        loop {
            let looked = std::future::poll_fn(|cx| Poll::Ready(self.poll_event(cx))).await;
            if let Poll::Ready(event) = looked {
                return Some(event);
            }
            if look.is_over() {
                self.spin.was_in_vain();
                return None;
            }
            // The program may have to run here.
            thread::yield_now();
            yield_now().await;
        }
    }

    fn poll_event(&self, cx: &mut task::Context<'_>) -> Poll<Event> {
        if let Some(command) = self.connection.next_command(cx.waker()) {
            return Poll::Ready(Event::Command(command));
        }
        let Some(socket) = self.lua.registered() else { return Poll::Ready(Event::Gone) };
        socket.poll_read_ready(cx).map(|ready| match ready {
            Ok(_) => Event::Readable,
            Err(_) => Event::Gone,
        })
    }

    /// Receives what is there, and carries out the question once it is whole.
    fn receive(&mut self) -> Turn {
        with_scratch(|scratch| {
            let room = FRAME_HEADER + MAX_LOCK_STEP_FRAME - self.inbox.len();
            let count = match self.take(&mut scratch[..room]) {
                Ok(0) => return Turn::Gone,
                Ok(count) => count,
                Err(Errno::WOULDBLOCK) => return Turn::Wait,
                Err(_) => return Turn::Gone,
            };
            let bytes = &scratch[..count];
            if !self.inbox.is_empty() {
                self.inbox.extend_from_slice(bytes);
                return match whole(&self.inbox) {
                    Ok(Some(_)) => self.carry_out_kept(),
                    Ok(None) => Turn::Wait,
                    Err(()) => Turn::Gone,
                };
            }
            let turn = match whole(bytes) {
                Ok(Some(body)) if FRAME_HEADER + body.len() == count => self.carry_out(body),
                // A second question before the answer to the first.
                Ok(Some(_)) | Err(()) => return Turn::Gone,
                Ok(None) => Turn::Wait,
            };
            if matches!(turn, Turn::Wait | Turn::NeedsSignature) {
                self.inbox = bytes.to_vec();
            }
            turn
        })
    }

    /// One receive. What comes is one question, so that the socket is empty behind it: the readiness goes before the
    /// answer lets the next one come.
    fn take(&self, room: &mut [u8]) -> Result<usize, Errno> {
        let socket = self.lua.registered().ok_or(Errno::NOTCONN)?;
        let received = socket.get_ref().receive(room);
        let mut context = task::Context::from_waker(task::Waker::noop());
        let full =
            matches!(&received, Ok(received) if received.count == room.len() || received.had_descriptors);
        if !full && let Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(&mut context) {
            guard.clear_ready();
        }
        received.map(|received| received.count)
    }

    fn carry_out_kept(&mut self) -> Turn {
        let kept = std::mem::take(&mut self.inbox);
        let turn = match whole(&kept) {
            Ok(Some(body)) if FRAME_HEADER + body.len() == kept.len() => self.carry_out(body),
            _ => return Turn::Gone,
        };
        if matches!(turn, Turn::NeedsSignature) {
            self.inbox = kept;
        }
        turn
    }

    fn carry_out(&mut self, body: &[u8]) -> Turn {
        let answered = match LockStepRequest::decode(body) {
            Err(error) => frame(&LockStepAnswer::failed(Failure::from(&error))),
            Ok(LockStepRequest::Close) => {
                return Turn::Reply(Reply { frame: self.session.close(), last: true });
            }
            Ok(LockStepRequest::ClientHello { context: Some(context), alpn, refuse }) => {
                return Turn::Decides { context, alpn: alpn.map(str::to_owned), refuse };
            }
            Ok(request) => self.answer(&request),
        };
        self.turn(answered)
    }

    fn turn(&mut self, answered: Answered) -> Turn {
        match answered {
            Answered::NeedsSignature => Turn::NeedsSignature,
            Answered::Frame(frame) => {
                if frame.len() > MAX_SPIN_DATA {
                    self.spin.answers(After::Bulk);
                }
                Turn::Reply(Reply { frame, last: false })
            }
        }
    }

    fn answer(&mut self, request: &LockStepRequest<'_>) -> Answered {
        self.spin.answers(match request {
            LockStepRequest::Read { .. } => After::Read,
            LockStepRequest::Write { data } if data.len() <= MAX_SPIN_DATA => After::Write,
            LockStepRequest::Write { .. } => After::Bulk,
            _ => After::Other,
        });
        let session = &mut self.session;
        let answered = match *request {
            LockStepRequest::Handshake => session.handshake(),
            LockStepRequest::Read { max } => return session.read(max),
            LockStepRequest::Write { data } => return session.write(data),
            LockStepRequest::Shutdown => return session.shutdown(),
            LockStepRequest::Info => return session.tell_info(),
            LockStepRequest::Facts => return session.facts(),
            LockStepRequest::ClientHello { alpn, refuse, .. } => {
                return self.decided(None, alpn.map(str::to_owned), refuse);
            }
            LockStepRequest::Psk { .. } => return invalid("no handshake waits for a key"),
            LockStepRequest::Close | LockStepRequest::Unknown(_) => {
                let failure = Failure::new(ErrorCode::UnknownOperation, "this question is not known here");
                return frame(&LockStepAnswer::failed(failure));
            }
        };
        self.mind_the_handshake();
        answered
    }

    fn mind_the_handshake(&mut self) {
        if !self.session.is_handshaking() && self.handshaking.take().is_some() {
            self.handshake_is_over();
        }
    }

    fn handshake_is_over(&mut self) {
        tls::ask_for_keys_by(self.session.ssl(), None);
        self.apart_until = None;
        if self.session.is_established() {
            self.connection.is_now(Stage::LockStep);
            self.authority.counters.handshake_done(&self.connection.owner);
            if let Err(failure) = admission::admit(&self.authority, &self.connection, self.session.ssl()) {
                self.connection.withdraw(failure);
            }
        } else if let Some(failure) = self.session.failure() {
            self.authority.counters.handshake_failed(&self.connection.owner, failure);
        }
    }

    /// Goes on as the program has decided.
    fn decided(&mut self, context: Option<SslContext>, alpn: Option<String>, refuse: bool) -> Answered {
        if self.handshaking.is_none() {
            return invalid("no handshake waits for a decision");
        }
        let answered = self.session.decided(Decision { context, alpn, refuse });
        self.mind_the_handshake();
        answered
    }

    /// The same for another context, within the deadline of a handshake.
    async fn decides(&mut self, number: u64, alpn: Option<String>, refuse: bool) -> Turn {
        let deadline = self.authority.limits().handshake();
        let context = match &self.handshaking {
            None => Err(Failure::new(ErrorCode::Invalid, "no handshake waits for a decision")),
            Some(handshaking) => {
                let (contexts, floors) = (handshaking.contexts.clone(), handshaking.floors);
                let peer = sockets::peer(self.session.fd());
                let made = contexts.for_server(number, floors, peer);
                let made = timeout(deadline, made).await;
                let made = made.unwrap_or_else(|_| Err(handshake::not_in_time(deadline)));
                made.inspect(|_| {
                    contexts.standing(number).into_iter().for_each(|one| self.connection.rests_on(one));
                })
            }
        };
        self.spin.answers(After::Other);
        let answered = match context {
            Ok(context) => self.decided(Some(context), alpn, refuse),
            Err(failure) => frame(&LockStepAnswer::failed(failure)),
        };
        self.turn(answered)
    }

    /// Sends the answer, and says what comes next.
    async fn finish(&mut self, turn: Turn) -> Next {
        let turn = match turn {
            Turn::Decides { context, alpn, refuse } => self.decides(context, alpn, refuse).await,
            turn => turn,
        };
        let reply = match turn {
            Turn::Reply(reply) => reply,
            Turn::NeedsSignature => return Next::Sign,
            Turn::Wait => return Next::Ask,
            // It has been seen to.
            Turn::Decides { .. } | Turn::Gone => return Next::Over,
        };
        // It fits at once, but for a client that does not read.
        let sent = match self.send_some(&reply.frame) {
            Ok(count) if count == reply.frame.len() => true,
            Ok(count) => {
                let deadline = self.authority.limits().request();
                matches!(timeout(deadline, self.send_all(&reply.frame[count..])).await, Ok(Ok(())))
            }
            Err(_) => false,
        };
        if reply.last || !sent { Next::Over } else { Next::Ask }
    }

    /// Sends what the socket has room for; returns how much that was.
    fn send_some(&self, frame: &[u8]) -> Result<usize, Errno> {
        let socket = self.lua.registered().ok_or(Errno::NOTCONN)?;
        match send(socket.get_ref(), frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(0),
            outcome => outcome,
        }
    }

    async fn send_all(&self, mut frame: &[u8]) -> io::Result<()> {
        let socket = self.lua.registered().ok_or(Errno::NOTCONN)?;
        while !frame.is_empty() {
            match self.send_some(frame)? {
                0 => socket.writable().await?.clear_ready(),
                count => frame = &frame[count..],
            }
        }
        Ok(())
    }

    /// What the control socket asks, between a question and the next.
    fn command(&mut self, command: Command) -> Next {
        match command {
            Command::Ask(question) => question(self.session.ssl(), Some(self.session.fd())),
            Command::Renegotiate(reply) => {
                let message = "a connection in lock-step mode is not renegotiated";
                // The principal may have gone.
                let _ = reply.send(Err(Failure::new(ErrorCode::Invalid, message)));
            }
            Command::Close(reply) => {
                drop(self.session.close());
                let _ = reply.send(Ok(luassl_protocol::Done {}));
                return Next::Over;
            }
            Command::Withdraw(failure) => {
                self.session.withdraw(failure);
                if self.handshaking.take().is_some() {
                    self.handshake_is_over();
                }
            }
        }
        Next::Ask
    }
}
