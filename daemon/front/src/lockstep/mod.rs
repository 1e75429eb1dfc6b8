//! Connections in lock-step mode. Lua keeps its TCP socket and polls it. The front works on a duplicate, only between a
//! request on the connection's socket and its answer, and never waits for the network in between.
//!
//! A handshake runs on a thread that may wait for the keeper, and an established connection on a thread that may not.
//! An established connection that has to sign moves to the first thread and back.

mod execute;
mod frame;
mod non_blocking_tcp;
mod prompt;
mod receive;
mod session;
mod spin;

use crate::{
    authorization::{authority::Authority, quota::QuotaGuard},
    context::ContextTable,
    handshake,
    runtime::{
        ConnectionRuntime,
        connection::{Command, Connection},
        readiness::Detachable,
        sockets::ClientSocket,
        tcp::Tcp,
        workers::{self, Job},
    },
};
use frame::whole;
use luassl_protocol::{ErrorCode, Failure};
use luassl_tls::{self as tls, Floors};
use openssl::ssl::Ssl;
use prompt::PskPrompt;
use rustix::io::Errno;
use session::Session;
use spin::SpinPolicy;
use std::{io, sync::Arc};
use tokio::time::{Instant, timeout_at};

/// A connection with its session.
pub(super) struct LockStep {
    authority: Arc<Authority>,
    runtime: Arc<ConnectionRuntime>,
    connection: Arc<Connection>,
    session: Session,
    lua: Detachable<ClientSocket>,
    /// A request that is incomplete, or that waits for another thread.
    inbox: Vec<u8>,
    handshaking: Option<Handshaking>,
    /// The time by which an incomplete request has to be complete.
    whole_until: Option<Instant>,
    /// The time by which a handshake with a dedicated thread has to be complete.
    handshake_until: Option<Instant>,
    spin: SpinPolicy,
}

/// The state that is held during the handshake.
pub(super) struct Handshaking {
    /// Its part of the limit on handshakes.
    pub(super) _slot: QuotaGuard,
    /// The contexts that the program may choose.
    pub(super) contexts: ContextTable,
    /// The floors of the grant of the context with which the handshake began.
    pub(super) floors: Floors,
    /// Its part of the limit on handshakes with dedicated threads; `None` if it has no such thread.
    pub(super) dedicated_thread: Option<QuotaGuard>,
}

impl LockStep {
    /// Creates a lock-step connection.
    ///
    /// # Errors
    /// Returns an error if OpenSSL has no memory left.
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
        let (whole_until, handshake_until, spin) = (None, None, SpinPolicy::new());
        Ok(Self {
            authority,
            runtime,
            connection,
            session,
            lua,
            inbox,
            handshaking,
            whole_until,
            handshake_until,
            spin,
        })
    }

    /// Runs the connection to its end. It begins on a thread that may sign.
    ///
    /// # Errors
    /// Returns an error if no descriptor or thread is left for a handshake that needs a dedicated thread.
    pub(super) fn start(self) -> Result<(), Failure> {
        if self.handshaking.as_ref().is_some_and(|handshaking| handshaking.dedicated_thread.is_some()) {
            return self.start_on_dedicated_thread();
        }
        let runtime = Arc::clone(&self.runtime);
        runtime.handshake_workers.spawn(self.into_job(true));
        Ok(())
    }

    /// Starts a handshake on a dedicated thread. The handshake may ask the client, and wait.
    fn start_on_dedicated_thread(mut self) -> Result<(), Failure> {
        let until = Instant::now() + self.authority.limits().handshake();
        self.handshake_until = Some(until);
        let limit = |error: io::Error| {
            Failure::new(ErrorCode::Limit, format!("no thread for a handshake of its own: {error}"))
        };
        let lua = self.lua.get().map(ClientSocket::copy);
        let lua = lua.unwrap_or_else(|| Err(Errno::NOTCONN.into())).map_err(limit)?;
        let prompt = PskPrompt { lua, until: until.into_std() };
        tls::ask_for_keys_by(self.session.ssl(), Some(Arc::new(move |question| prompt.ask(question))));
        workers::run_on_dedicated_thread("luassl-psk", self.into_job(true)).map_err(limit)
    }

    fn into_job(self, signing: bool) -> Job {
        Box::pin(self.run(signing))
    }
}

/// The next transition of a connection.
enum Transition {
    /// Wait for the next request, on this thread.
    Ask,
    /// Execute the present request, on a thread that may sign.
    Sign,
    /// End the connection.
    Over,
}

/// An event that has to be handled.
enum Event {
    Readable,
    Command(Command),
    Gone,
}

/// An answer to send, and whether the connection ends with it.
struct Reply {
    frame: Vec<u8>,
    last: bool,
}

/// The outcome of a receive.
enum Step {
    Reply(Reply),
    NeedsSignature,
    /// The decision at the ClientHello, for another context, which may have to be built first.
    Decides {
        context: u64,
        alpn: Option<String>,
        refuse: bool,
    },
    /// The request is incomplete.
    Wait,
    Gone,
}

impl LockStep {
    async fn run(mut self, signing: bool) {
        let next = match self.lua.register() {
            Ok(()) => self.serve_in_time(signing).await,
            Err(error) => {
                tracing::error!("a lock-step connection cannot be served: {error}");
                Transition::Over
            }
        };
        match next {
            Transition::Over => self.over(),
            Transition::Sign | Transition::Ask => {
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

    /// Runs [`LockStep::serve`], within the deadline of a handshake if this thread is dedicated to it.
    async fn serve_in_time(&mut self, signing: bool) -> Transition {
        let Some(until) = self.handshake_until else { return self.serve(signing).await };
        match timeout_at(until, self.serve(signing)).await {
            Ok(next) => next,
            Err(_) => self.late(handshake::not_in_time(self.authority.limits().handshake())),
        }
    }

    fn late(&self, failure: Failure) -> Transition {
        self.connection.record_end(failure);
        Transition::Over
    }

    /// Answers requests until the connection has to move to another thread, or ends.
    async fn serve(&mut self, signing: bool) -> Transition {
        if signing && let Ok(Some(_)) = whole(&self.inbox) {
            // The request that needs this thread.
            let step = self.execute_kept();
            match self.finish(step).await {
                Transition::Ask => {}
                next => return next,
            }
        }
        loop {
            if signing && !self.session.is_handshaking() {
                return Transition::Ask;
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
                    let step = self.receive();
                    self.arm_frame_deadline(&step);
                    self.finish(step).await
                }
                Event::Command(command) => self.command(command),
                Event::Gone => Transition::Over,
            };
            match next {
                Transition::Ask => {}
                next => return next,
            }
        }
    }

    /// Sets the deadline of a request that has begun to arrive.
    fn arm_frame_deadline(&mut self, step: &Step) {
        let half = matches!(step, Step::Wait) && !self.inbox.is_empty();
        let until = || Instant::now() + self.authority.limits().request();
        self.whole_until = half.then(|| self.whole_until.unwrap_or_else(until));
    }
}
