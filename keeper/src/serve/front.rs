//! Serves a front. One thread accepts connections, and each connection has its own thread, so that a signature for one
//! connection does not wait until another connection reads its answer. The resources of one front are bounded: the
//! number of connections, and the number of concurrent signatures.

use crate::crypto::sha256;
use crate::identities::identity::Public;
use crate::identities::registry::{FrontUsage, Generation, Registry, Service};
use crate::limits::{CONNECTIONS_PER_FRONT, EPOCH_CHECK, RETRY_PAUSE, STACK};
use crate::log;
use crate::policy::permits::Permits;
use crate::policy::sign::{Denied, Done, decrypt, sign};
use crate::policy::usage::Made;
use crate::serve::signers::Signers;
use crate::serve::socket::{self, Incoming, Unreceived};
use luassl_keeper_ipc::admin::Rates;
use luassl_keeper_ipc::audit::Line;
use luassl_keeper_ipc::front::{
    Answer, Decrypt, Identity, PRE_MASTER, PreMaster, REQUEST_MAX, Refusal, Request, Sign,
};
use luassl_keeper_ipc::transport::{PollFlags, RecvFlags, wait};
use luassl_keeper_ipc::{Malformed, TooLong};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use zeroize::{Zeroize, Zeroizing};

/// The state that all connections of a front share.
pub(crate) struct Front {
    name: String,
    registry: Arc<Registry>,
    /// The threads that do all work with keys.
    signers: Arc<Signers>,
    connections: Arc<Permits>,
    signatures: Arc<Permits>,
    usage: FrontUsage,
}

/// The reason why a connection ended without being closed by the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error("it sent an invalid request: {0}")]
    Malformed(#[from] Malformed),
    #[error("it sent a request of more than {REQUEST_MAX} bytes")]
    Oversized,
    #[error("it sent descriptors")]
    Descriptors,
    #[error("it subscribed more often than [limits] signatures_per_front")]
    Rate,
    #[error("it does not read its answers")]
    Stalled,
    #[error("an answer was too long")]
    Answer(#[from] TooLong),
    #[error("the socket failed: {0}")]
    System(Errno),
}

impl From<Unreceived> for Broken {
    fn from(unreceived: Unreceived) -> Self {
        match unreceived {
            Unreceived::Oversized => Self::Oversized,
            Unreceived::Descriptors => Self::Descriptors,
            Unreceived::System(error) => error.into(),
        }
    }
}

impl From<Errno> for Broken {
    fn from(error: Errno) -> Self {
        if error == Errno::TIMEDOUT { Self::Stalled } else { Self::System(error) }
    }
}

impl Front {
    /// Returns a front without connections. The number of concurrent signatures is at most the number of cores.
    pub(crate) fn new(
        name: &str,
        registry: &Arc<Registry>,
        signers: &Arc<Signers>,
        cores: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            registry: Arc::clone(registry),
            signers: Arc::clone(signers),
            connections: Permits::new(CONNECTIONS_PER_FRONT),
            signatures: Permits::new(cores),
            usage: registry.usage_of(name),
        })
    }

    /// Accepts and serves connections until the process ends.
    pub(crate) fn listen(self: &Arc<Self>, listener: &OwnedFd) {
        loop {
            let permit = self.connections.take();
            let accepted = socket::accept(listener).map_err(std::io::Error::from);
            let started = accepted.and_then(|socket| {
                let front = Arc::clone(self);
                let serve = move || {
                    let _permit = permit;
                    front.serve(socket);
                };
                thread::Builder::new().name("front".to_owned()).stack_size(STACK).spawn(serve)
            });
            if let Err(error) = started {
                self.trouble(format_args!("a connection was not accepted: {error}"));
                thread::sleep(RETRY_PAUSE);
            }
        }
    }

    /// Returns whether the rate of the front admits a request that concerns no identity.
    fn admits(&self) -> bool {
        let rates = self.registry.service().map_or_else(Rates::default, |service| service.rates);
        self.usage.counts.admit_front(rates, Instant::now())
    }

    /// Serves one connection until it ends.
    pub(crate) fn serve(self: &Arc<Self>, socket: OwnedFd) {
        let connection = Connection {
            front: Arc::clone(self),
            socket,
            changes: None,
            sent: BTreeMap::new(),
            tickets: None,
            recheck: None,
            asked: false,
            out: Vec::new(),
        };
        if let Err(broken) = connection.run() {
            self.usage.audit.throttled(|| self.usage.audit.of("dropped").text("detail", &broken.to_string()));
            if !self.admits() {
                // The number of connections of the front is bounded, and this one counts until then.
                thread::sleep(RETRY_PAUSE);
            }
        }
    }

    fn sign(&self, request: &Sign<'_>) -> Result<Vec<u8>, Refusal> {
        self.attempt(request.name, Made::Signature, |service| sign(service, &self.name, request))
    }

    fn decrypt(&self, request: &Decrypt<'_>) -> Result<Zeroizing<[u8; PRE_MASTER]>, Refusal> {
        self.attempt(request.name, Made::Secret, |service| decrypt(service, &self.name, request))
    }

    /// Carries out a request about an identity if the rates admit it, and counts the outcome.
    fn attempt<T: Send>(
        &self,
        identity: &str,
        made: Made,
        carry_out: impl FnOnce(&Service) -> Result<Done<T>, Denied> + Send,
    ) -> Result<T, Refusal> {
        let Some(service) = self.registry.service_soon() else { return Err(Refusal::NotYet) };
        let known = service.reaches(&self.name, identity).then_some(identity);
        let outcome = if self.usage.counts.admit(known, service.rates, Instant::now()) {
            let _permit = self.signatures.take();
            self.signers.run(|| carry_out(&service))
        } else {
            Err(Denied::Rate)
        };
        match outcome {
            Ok(done) => {
                self.usage.counts.made(identity, made, Instant::now());
                if done.audit {
                    log::line(self.line("used", identity, made).word("message", done.message));
                }
                Ok(done.answer)
            }
            Err(denied) => {
                let refusal = denied.refusal();
                self.usage.counts.refused(known, refusal, Instant::now());
                self.usage.audit.throttled(|| {
                    let line = self.line("refused", identity, made).word("reason", refusal.as_str());
                    line.text("detail", &denied.to_string())
                });
                Err(refusal)
            }
        }
    }

    fn line(&self, event: &str, identity: &str, made: Made) -> Line {
        self.usage.audit.of(event).text("identity", identity).word("operation", made.operation())
    }

    fn trouble(&self, detail: impl std::fmt::Display) {
        self.usage.audit.throttled(|| self.usage.audit.of("trouble").text("detail", &detail.to_string()));
    }
}

struct Connection {
    front: Arc<Front>,
    socket: OwnedFd,
    /// An eventfd, if the front has subscribed.
    changes: Option<Arc<OwnedFd>>,
    /// The identities that were sent to the front.
    sent: BTreeMap<String, Arc<Public>>,
    /// SHA-256 of the ticket keys that the front has.
    tickets: Option<[u8; 32]>,
    /// The interval of checks for new ticket keys when no change occurs. `None` for a front without ticket keys.
    recheck: Option<Duration>,
    /// Whether the front waits for `Synced`.
    asked: bool,
    out: Vec<u8>,
}

impl Connection {
    fn run(mut self) -> Result<(), Broken> {
        let mut buffer = vec![0; REQUEST_MAX];
        loop {
            let (request, change) = self.wait()?;
            if change || !request {
                self.acknowledge_change();
                self.tell()?;
            }
            if request && !self.receive(&mut buffer)? {
                return Ok(());
            }
        }
    }

    /// Waits for a request, a change, or the end of an epoch. If only requests are possible, receiving waits for them,
    /// so that a signature takes two system calls.
    fn wait(&self) -> Result<(bool, bool), Errno> {
        let Some(changes) = &self.changes else { return Ok((true, false)) };
        let ready = wait([self.socket.as_fd(), changes.as_fd()], PollFlags::IN, self.recheck);
        ready.map(|[request, change]| (request, change))
    }

    fn acknowledge_change(&self) {
        if let Some(changes) = &self.changes {
            // If there is nothing to read, the change was already handled.
            let _ = rustix::io::read(&**changes, &mut [0_u8; 8]);
        }
    }

    /// Receives one request. Returns `false` at the end of the connection.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, Broken> {
        let alone = self.changes.is_none();
        let flags = if alone { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let length = match socket::receive(&self.socket, buffer, 0, flags)? {
            Incoming::End => return Ok(false),
            Incoming::Nothing => {
                // An inherited socket may be non-blocking.
                if alone {
                    wait([self.socket.as_fd()], PollFlags::IN, None)?;
                }
                return Ok(true);
            }
            Incoming::Datagram(length, _) => length,
        };
        let request = Request::decode(buffer.get(..length).unwrap_or_default())?;
        match request {
            Request::Subscribe => self.subscribe()?,
            Request::Sign(request) => self.sign(&request)?,
            Request::Decrypt(request) => self.decrypt(&request)?,
        }
        Ok(true)
    }

    fn subscribe(&mut self) -> Result<(), Broken> {
        if !self.front.admits() {
            return Err(Broken::Rate);
        }
        if self.changes.is_none() {
            let changes = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            self.front.registry.subscribe(&changes);
            self.changes = Some(changes);
        }
        self.asked = true;
        self.tell()
    }

    fn sign(&mut self, request: &Sign<'_>) -> Result<(), Broken> {
        let call = request.call;
        match self.front.sign(request) {
            Ok(signature) => self.send(&Answer::Signature { call, bytes: &signature }),
            Err(reason) => self.send(&Answer::Refused { call, reason }),
        }
    }

    fn decrypt(&mut self, request: &Decrypt<'_>) -> Result<(), Broken> {
        let call = request.call;
        match self.front.decrypt(request) {
            Ok(secret) => {
                let sent = self.send(&Answer::Secret { call, secret: PreMaster(&secret) });
                self.out.zeroize();
                sent
            }
            Err(reason) => self.send(&Answer::Refused { call, reason }),
        }
    }

    /// Sends the front all changes since the last update.
    fn tell(&mut self) -> Result<(), Broken> {
        let front = Arc::clone(&self.front);
        let Some(service) = front.registry.service() else { return Ok(()) };
        let mut gone = std::mem::take(&mut self.sent);
        for (name, generation) in service.reached(&front.name) {
            let known = gone.remove(name);
            if !known.is_some_and(|known| Arc::ptr_eq(&known, &generation.public)) {
                self.send(&identity(name, generation))?;
            }
            self.sent.insert(name.to_owned(), Arc::clone(&generation.public));
        }
        for name in gone.keys() {
            self.send(&Answer::Withdrawn { name })?;
        }
        self.tell_tickets(&service)?;
        if std::mem::take(&mut self.asked) {
            self.send(&Answer::Synced)?;
        }
        Ok(())
    }

    /// Sends the front the current ticket keys if it does not have them.
    fn tell_tickets(&mut self, service: &Service) -> Result<(), Broken> {
        let now = SystemTime::now();
        let Some(tickets) = &service.tickets else { return Ok(()) };
        self.recheck = Some(tickets.left(now).min(EPOCH_CHECK));
        let front = &*self.front;
        let keys = match front.signers.run(|| tickets.keys(&front.name, now)) {
            Ok(keys) => keys,
            Err(error) => {
                self.front.trouble(format_args!("no keys for session tickets: {error}"));
                return Ok(());
            }
        };
        let sent = self.send_tickets(&Answer::Tickets(keys.message()));
        self.out.zeroize();
        sent
    }

    fn send_tickets(&mut self, answer: &Answer<'_>) -> Result<(), Broken> {
        answer.encode(&mut self.out)?;
        let digest = sha256(&self.out).ok();
        if digest.is_some() && self.tickets == digest {
            return Ok(());
        }
        self.tickets = digest;
        self.send(answer)
    }

    fn send(&mut self, answer: &Answer<'_>) -> Result<(), Broken> {
        answer.encode(&mut self.out)?;
        match socket::send_soon(&self.socket, &self.out) {
            // The front has ended. The next receive reports it.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            sent => Ok(sent?),
        }
    }
}

fn identity<'a>(name: &'a str, generation: &'a Generation) -> Answer<'a> {
    let public = &generation.public;
    Answer::Identity(Identity {
        name,
        generation: generation.number,
        key_id: public.key_id,
        public_key: &public.public_key,
        chain: public.chain.iter().map(Vec::as_slice).collect(),
        staple: &public.staple,
    })
}
