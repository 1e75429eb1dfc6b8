//! Listeners: a thread that accepts, and the dealing of finished connections to subscribers.
//!
//! A client's listening socket shares its open file, O_NONBLOCK included, with the client, and there is no accept
//! that is non-blocking by call. So each listener has a thread of its own, which may be held by nobody but itself.

use super::{
    Active, Front,
    connection::address_text,
    context::{Peer, Principal, SessionFactory},
    dispatcher::{Dispatcher, Finished},
    half_open::{self, Dropped, HalfOpen, OfListener},
    handshake::{self, Established, Failed},
    interrupt,
    owner::Owner,
    pump::Pump,
    quota::{Bound, Kind, QuotaGuard},
    sockets::{self, ClientSocket},
    tcp::Tcp,
};
use luassl_protocol::{ErrorCode, Failure, Role};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
    net::{SocketAddrAny, SocketFlags, acceptfrom_with, sockopt},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// How long the accepting thread waits before it looks again, where a bound is reached or accepting fails.
const BACK_OFF: Duration = Duration::from_millis(20);

/// How often a thread that is to stop is interrupted, until it has confirmed.
const INTERRUPT_EVERY: Duration = Duration::from_millis(5);

/// For what has been bounded before.
const UNBOUNDED: Bound = Bound { owner: u32::MAX, all: None };

/// What tells listeners apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ListenerKey {
    /// One that the configuration names.
    Named(String),
    /// A client's own, by SO_COOKIE.
    Own(u64),
}

/// A listener with its subscribers.
pub(super) struct Listener {
    front: Weak<Front>,
    pub(super) owner: Owner,
    pub(super) key: ListenerKey,
    pub(super) sessions: SessionFactory,
    dispatcher: Mutex<Dispatcher>,
    /// SO_COOKIE of the socket that it accepts on, or is about to.
    cookie: AtomicU64,
    /// The socket that it is about to accept on in place of the one that it has.
    next_socket: Mutex<Option<Arc<Tcp>>>,
    half_open: OfListener,
    stop: AtomicBool,
    wake: OwnedFd,
    _slot: QuotaGuard,
}

/// The thread of a listener.
struct Acceptor {
    listener: Arc<Listener>,
    socket: Arc<Tcp>,
    /// The last failure has been logged.
    complained: bool,
    /// A bound has stopped accepting, and that has been said.
    waits: bool,
    /// There is nothing to accept from any more.
    failed: bool,
}

impl Listener {
    /// Starts accepting on `socket`.
    ///
    /// # Errors
    /// When there is no descriptor or thread left.
    pub(super) fn start(
        front: &Arc<Front>,
        owner: Owner,
        key: ListenerKey,
        socket: Arc<Tcp>,
        sessions: SessionFactory,
        slot: QuotaGuard,
    ) -> Result<Arc<Self>, Failure> {
        let exhausted = |error: &dyn std::fmt::Display| {
            Failure::new(ErrorCode::Limit, format!("no resources left for a listener: {error}"))
        };
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| exhausted(&error))?;
        let listener = Arc::new(Self {
            front: Arc::downgrade(front),
            owner,
            key,
            sessions,
            dispatcher: Mutex::default(),
            cookie: AtomicU64::new(sockets::cookie(socket.as_fd())?),
            next_socket: Mutex::default(),
            half_open: OfListener::default(),
            stop: AtomicBool::new(false),
            wake,
            _slot: slot,
        });
        let acceptor = Acceptor {
            listener: Arc::clone(&listener),
            socket,
            complained: false,
            waits: false,
            failed: false,
        };
        let thread = thread::Builder::new()
            .name("accept".into())
            .stack_size(256 * 1024)
            .spawn(move || acceptor.run())
            .map_err(|error| exhausted(&error))?;
        front.acceptors.enter(Arc::clone(&listener), thread);
        Ok(listener)
    }

    fn next_socket(&self) -> MutexGuard<'_, Option<Arc<Tcp>>> {
        self.next_socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it accept on another socket from now on; false where it does already.
    fn move_to(&self, socket: &Arc<Tcp>) -> bool {
        let Ok(cookie) = sockets::cookie(socket.as_fd()) else { return false };
        if self.cookie.swap(cookie, Ordering::SeqCst) == cookie {
            return false;
        }
        *self.next_socket() = Some(Arc::clone(socket));
        self.wake_acceptor();
        true
    }

    fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a subscriber, whose delivery socket's front end is given; `None` when the listener has just ended.
    pub(super) fn add_subscriber(&self, delivery: Arc<ClientSocket>) -> Option<u64> {
        self.dispatcher().add_subscriber(delivery)
    }

    /// What a subscriber said.
    pub(super) fn heard(&self, id: u64, said: &[u8]) {
        let taken = self.dealing(|dispatcher| dispatcher.heard(id, said));
        for (finished, stream) in taken {
            self.start_pump(finished, stream);
        }
    }

    /// A subscriber has gone: what it had not taken goes to others. True when it was the last, and the listener ends.
    pub(super) fn remove_subscriber(&self, id: u64) -> bool {
        let undelivered = self.dealing(|dispatcher| dispatcher.remove_subscriber(id));
        let ends = undelivered.is_some();
        self.abandon(undelivered.unwrap_or_default());
        ends
    }

    /// A handshake has ended well.
    fn finished(&self, finished: Finished) {
        let refused = self.dealing(|dispatcher| dispatcher.finished(finished));
        self.abandon(refused.into_iter().collect());
    }

    /// A handshake has failed: counted, logged, and kept for subscribers that asked for reports.
    fn failed(&self, failure: Failure) {
        tracing::debug!(listener = ?self.key, code = ?failure.code, "handshake failed: {failure}");
        self.dealing(|dispatcher| dispatcher.failed(failure));
    }

    /// Changes the dispatcher; where dealing stalls, the accepting thread tries it again.
    fn dealing<T>(&self, change: impl FnOnce(&mut Dispatcher) -> T) -> T {
        let mut dispatcher = self.dispatcher();
        let outcome = change(&mut dispatcher);
        let stalled = dispatcher.is_stalled();
        drop(dispatcher);
        if stalled {
            self.wake_acceptor();
        }
        outcome
    }

    fn wake_acceptor(&self) {
        // An eventfd that is full has been written to already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// The listening socket will accept nothing any more: subscribers are told by the end of their sockets.
    pub(super) fn fail(&self) {
        let undelivered = self.dispatcher().fail();
        self.abandon(undelivered);
    }

    fn abandon(&self, undelivered: Vec<Finished>) {
        let Some(front) = self.front.upgrade() else { return };
        for finished in undelivered {
            front.runtime.connections.leave(&finished.connection);
        }
    }

    fn start_pump(&self, finished: Finished, stream: ClientSocket) {
        let Some(front) = self.front.upgrade() else { return };
        let (runtime, shutdown) = (Arc::clone(&front.runtime), front.limits().shutdown());
        Pump::new(runtime, finished.connection, finished.established.tls, stream, shutdown).start();
    }
}

impl Acceptor {
    fn run(mut self) {
        while !self.failed && !self.is_stopping() {
            let Some(front) = self.listener.front.upgrade() else { return };
            self.move_on();
            if let Some((tcp, slots, half_open)) = self.next_socket(&front) {
                self.begin(&front, tcp, slots, half_open);
            }
        }
    }

    /// Takes the socket that a reload has brought; the one before it is closed.
    fn move_on(&mut self) {
        let Some(socket) = self.listener.next_socket().take() else { return };
        let address = rustix::net::getsockname(&*socket).ok();
        let address = address.as_ref().map(address_text).unwrap_or_default();
        tracing::info!(listener = ?self.listener.key, "it accepts on {address} from now on");
        self.socket = socket;
    }

    fn is_stopping(&self) -> bool {
        self.listener.stop.load(Ordering::SeqCst)
    }

    /// Waits for a peer, within the bounds; `None` when the caller should look again.
    fn next_socket(&mut self, front: &Front) -> Option<(Tcp, Slots, HalfOpen)> {
        if self.listener.dispatcher().is_stalled() {
            self.pause();
            self.listener.dealing(Dispatcher::deal);
            return None;
        }
        self.wait_readable()?;
        let slots = match Slots::take(front, &self.listener.sessions.principal) {
            Ok(slots) => {
                self.waits = false;
                slots
            }
            Err(failure) => {
                if !std::mem::replace(&mut self.waits, true) {
                    tracing::warn!(listener = ?self.listener.key, "peers wait to be accepted: {failure}");
                }
                self.pause();
                return None;
            }
        };
        match acceptfrom_with(&*self.socket, SocketFlags::CLOEXEC) {
            Ok((tcp, from)) => {
                self.complained = false;
                let half_open = self.admit(front, &tcp, from)?;
                Some((Tcp::new(tcp), slots, half_open))
            }
            Err(error) => {
                self.not_accepted(error);
                None
            }
        }
    }

    /// Counts a connection among those whose handshakes are under way; `None` for one that is reset in place of that.
    fn admit(&self, front: &Front, tcp: &OwnedFd, from: Option<SocketAddrAny>) -> Option<HalfOpen> {
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        // Those that have gone already share a source that nobody else has.
        let from = from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.ip());
        let (owner, of_listener) = (&self.listener.sessions.principal.owner, &self.listener.half_open);
        match front.sources.admit(owner, from, of_listener, &front.limits(), half_open::chance()) {
            Ok(half_open) => return Some(half_open),
            Err(Dropped::Early) => front.counters.dropped_early(owner),
            Err(Dropped::Source) => front.counters.dropped_by_source(owner),
        }
        // Its close then resets the connection, and waits for nothing. Nobody else has the socket.
        let _ = sockopt::set_socket_linger(tcp, Some(Duration::ZERO));
        None
    }

    fn not_accepted(&mut self, error: Errno) {
        match error {
            // Another process was faster, the peer has gone, or the thread is to stop.
            Errno::WOULDBLOCK | Errno::CONNABORTED | Errno::INTR => {}
            // The socket does not listen any more: whoever shares it has shut it down.
            Errno::INVAL | Errno::BADF | Errno::NOTSOCK | Errno::OPNOTSUPP => {
                tracing::warn!(listener = ?self.listener.key, "the listener has ended: {error}");
                self.listener.fail();
                self.failed = true;
            }
            error => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(listener = ?self.listener.key, "accept failed: {error}; another attempt follows");
                }
                self.pause();
            }
        }
    }

    /// Waits for a peer, or to be woken for another reason (`None`).
    fn wait_readable(&self) -> Option<()> {
        let mut polled =
            [PollFd::new(&*self.socket, PollFlags::IN), PollFd::new(&self.listener.wake, PollFlags::IN)];
        poll(&mut polled, None).ok()?;
        if !polled[1].revents().is_empty() {
            self.forget_wake();
            return None;
        }
        Some(())
    }

    fn pause(&self) {
        let nanos = i64::try_from(BACK_OFF.as_nanos()).unwrap_or(0);
        let mut polled = [PollFd::new(&self.listener.wake, PollFlags::IN)];
        if matches!(poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: nanos })), Ok(1..)) {
            self.forget_wake();
        }
    }

    /// What it was for is looked at anyway.
    fn forget_wake(&self) {
        let _ = rustix::io::read(&self.listener.wake, &mut [0; 8]);
    }

    /// Hands an accepted socket to a handshake thread.
    fn begin(&self, front: &Arc<Front>, tcp: Tcp, slots: Slots, half_open: HalfOpen) {
        let (listener, front_for_job) = (Arc::clone(&self.listener), Arc::clone(front));
        front.runtime.handshake_workers.spawn(Box::pin(async move {
            serve(&listener, &front_for_job, tcp, (slots, half_open)).await;
        }));
    }
}

/// One accepted connection, from its socket to the dispatcher.
async fn serve(listener: &Listener, front: &Arc<Front>, tcp: Tcp, (slots, half_open): (Slots, HalfOpen)) {
    let established = match shake_hands(listener, front, tcp).await {
        Ok(established) => established,
        Err(failed) => {
            if failed.is_without_hello() {
                front.counters.hello_late(&listener.sessions.principal.owner);
            }
            refuse(listener, front, failed.failure.clone());
            failed.part().await;
            return;
        }
    };
    drop((slots.handshake, half_open));
    match finish(listener, front, established, slots.connection) {
        Ok(finished) => {
            front.counters.handshake_done(&listener.owner);
            listener.finished(finished);
        }
        Err(failure) => refuse(listener, front, failure),
    }
}

/// The handshake of one accepted connection, within its deadline.
async fn shake_hands(listener: &Listener, front: &Arc<Front>, tcp: Tcp) -> Result<Established, Failed> {
    let limits = front.limits();
    let deadline = limits.handshake();
    let until = Instant::now() + deadline;
    let peer = Peer::New(sockets::peer(tcp.as_fd()));
    let arrived = handshake::arrival(tcp, limits.client_hello()).await?;
    // After a reload the context is made anew first; peers do not wait for that longer than for anything else.
    let session = timeout_at(until, listener.sessions.session(front, Role::Server, None, None, peer)).await;
    let session = session.unwrap_or_else(|_| Err(handshake::not_in_time(deadline)));
    handshake::accepted(session.map_err(Failed::without_alert)?, arrived, until, deadline).await
}

/// A connection that is ready to be delivered.
fn finish(
    listener: &Listener,
    front: &Front,
    established: Established,
    slot: QuotaGuard,
) -> Result<Finished, Failure> {
    // The bound stops accepting, and what has been accepted is delivered: those whose handshakes were under way come
    // on top, and these have a bound of their own.
    let undelivered = front.quotas.take(&listener.owner, Kind::Undelivered, 1, UNBOUNDED)?;
    let connection = front.runtime.connections.enter(listener.owner.clone(), true, slot)?;
    connection.rests_on(listener.sessions.standing(Role::Server));
    if let Err(failure) = front.admit(&connection, established.tls.ssl()) {
        connection.record_end(failure.clone());
        front.runtime.connections.leave(&connection);
        return Err(failure);
    }
    Ok(Finished { connection, established, _slot: undelivered })
}

fn refuse(listener: &Listener, front: &Front, failure: Failure) {
    front.counters.handshake_failed(&listener.owner, &failure);
    listener.failed(failure);
}

/// What one connection takes of its owner's bounds, before it is accepted.
struct Slots {
    handshake: QuotaGuard,
    connection: QuotaGuard,
}

impl Slots {
    fn take(front: &Front, principal: &Principal) -> Result<Self, Failure> {
        let limits = front.limits();
        let take = |kind, own, all| {
            front.quotas.attempt(&principal.owner, kind, 1, Bound { owner: own, all: Some(all) })
        };
        let connections = front.connection_bound(principal);
        // A look at the bound only: the part is taken when there is something to deliver.
        drop(take(Kind::Undelivered, limits.undelivered_per_owner, limits.undelivered)?);
        Ok(Self {
            handshake: take(Kind::Handshakes, limits.handshakes_per_owner, limits.handshakes)?,
            connection: take(Kind::Connections, connections, limits.connections)?,
        })
    }
}

/// An accept that waits, since the peer that it was called for has gone, would keep the old socket open.
fn interrupt_until_moved(front: &Arc<Front>, listener: Arc<Listener>) {
    let front = Arc::clone(front);
    let interrupting = move || {
        while listener.next_socket().is_some() && front.acceptors.interrupt(&listener) {
            thread::sleep(INTERRUPT_EVERY);
        }
    };
    if let Err(error) = thread::Builder::new().name("move".into()).spawn(interrupting) {
        tracing::error!("no thread to move a listener with: {error}");
    }
}

/// Running listeners with their threads.
#[derive(Default)]
pub(super) struct Acceptors {
    running: Mutex<Vec<(Arc<Listener>, JoinHandle<()>)>>,
}

impl Acceptors {
    fn running(&self) -> MutexGuard<'_, Vec<(Arc<Listener>, JoinHandle<()>)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, listener: Arc<Listener>, thread: JoinHandle<()>) {
        self.running().push((listener, thread));
    }

    /// The running listener of that key, whoever owns it.
    pub(super) fn find(&self, key: &ListenerKey) -> Option<Arc<Listener>> {
        let running = self.running();
        let found =
            running.iter().find(|(listener, _)| listener.key == *key && !listener.dispatcher().is_closed());
        found.map(|(listener, _)| Arc::clone(listener))
    }

    /// Has the configured listeners that run accept on the sockets in force, and ends those that are configured no
    /// more: their subscribers are told by the end of their sockets.
    pub(super) fn follow(&self, front: &Arc<Front>) {
        let active = front.active();
        let running: Vec<_> = self.running().iter().map(|(listener, _)| Arc::clone(listener)).collect();
        for listener in running {
            let ListenerKey::Named(name) = &listener.key else { continue };
            match active.listeners.get(name) {
                Some(socket) if listener.move_to(socket) => interrupt_until_moved(front, listener),
                Some(_) => {}
                None => {
                    tracing::warn!(listener = ?listener.key, "it is configured no more, and ends");
                    listener.fail();
                }
            }
        }
    }

    /// The running listeners that no grant allows any more.
    pub(super) fn withdrawn(&self, active: &Active) -> Vec<Arc<Listener>> {
        let running = self.running();
        let open = running.iter().map(|(listener, _)| listener).filter(|one| !one.dispatcher().is_closed());
        open.filter(|one| one.sessions.standing(Role::Server).judge(active).is_err()).cloned().collect()
    }

    /// Ends the connections that nobody has taken and that no grant allows any more.
    pub(super) fn drop_withdrawn(&self) {
        let running: Vec<_> = self.running().iter().map(|(listener, _)| Arc::clone(listener)).collect();
        for listener in running {
            let withdrawn = listener.dispatcher().drop_withdrawn();
            listener.abandon(withdrawn);
        }
    }

    /// Interrupts a listener's thread; false where it has ended.
    fn interrupt(&self, listener: &Arc<Listener>) -> bool {
        let running = self.running();
        let found = running.iter().find(|(other, _)| Arc::ptr_eq(other, listener));
        found.filter(|(_, thread)| !thread.is_finished()).is_some_and(|(_, thread)| {
            interrupt::interrupt(thread);
            true
        })
    }

    /// Stops a listener's thread on a thread made for that, since a system call of a client's making may hold it:
    /// it is interrupted until it has confirmed. shutdown(2) would end the socket for all who share it. The last
    /// subscriber's delivery socket is closed when the listening socket has been: its end of file tells a program that
    /// waits for it that the address is free.
    pub(super) fn stop(&self, listener: &Arc<Listener>, delivery: Arc<ClientSocket>) {
        let mut running = self.running();
        let Some(at) = running.iter().position(|(other, _)| Arc::ptr_eq(other, listener)) else { return };
        let (listener, thread) = running.swap_remove(at);
        drop(running);
        listener.stop.store(true, Ordering::SeqCst);
        listener.wake_acceptor();
        let join = move || {
            while !thread.is_finished() {
                interrupt::interrupt(&thread);
                thread::sleep(INTERRUPT_EVERY);
            }
            let _ = thread.join();
            drop(delivery);
        };
        if let Err(error) = thread::Builder::new().name("stop".into()).spawn(join) {
            tracing::error!("no thread to stop a listener with: {error}");
        }
    }
}
