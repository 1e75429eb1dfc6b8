//! Listeners: a thread that accepts, and the dealing of finished connections to holders.
//!
//! A client's listening socket shares its open file, O_NONBLOCK included, with the client, and there is no accept
//! that is non-blocking by call. So each listener has a thread of its own, which may be held by nobody but itself.

use super::{
    Front,
    connection::Connection,
    context::{Asker, Sessions},
    handshake::{self, Established},
    interrupt,
    owner::Owner,
    pump::Pump,
    quota::{Bound, Kind, Slot},
    sockets,
};
use luassl_protocol::{
    Delivery, ErrorCode, Failure, HandshakeResult, MAX_RESULT, Role, Token, holder, to_body,
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    net::{SendFlags, SocketFlags, accept_with},
};
use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Asks that one holder may have outstanding; more are ignored.
const MAX_ASKS: usize = 64;

/// Failed handshakes that wait for a holder that asked for reports; older ones are dropped.
const MAX_REPORTS: usize = 64;

/// How long the accepting thread waits before it looks again, where a bound is reached or accepting fails.
const BACK_OFF: Duration = Duration::from_millis(20);

/// How often a thread that is to stop is interrupted, until it has confirmed.
const INTERRUPT_EVERY: Duration = Duration::from_millis(5);

/// What tells listeners apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ListenerKey {
    /// One that the configuration names.
    Named(String),
    /// A client's own, by SO_COOKIE.
    Own(u64),
}

/// A finished connection that waits for a holder.
struct Finished {
    connection: Arc<Connection>,
    established: Established,
    _slot: Slot,
}

/// One process that takes connections from the listener.
struct Holder {
    delivery: Arc<OwnedFd>,
    /// Each ask; true where failed handshakes count too.
    asks: VecDeque<bool>,
    /// Delivered, with the front's end of the stream, and not yet confirmed.
    unconfirmed: VecDeque<(Finished, OwnedFd)>,
}

#[derive(Default)]
struct Hub {
    holders: BTreeMap<u64, Holder>,
    /// The holder that was served last; the next one after it is the first to be looked at.
    last_served: u64,
    ready: VecDeque<Finished>,
    reports: VecDeque<Failure>,
    closed: bool,
}

/// A listener with its holders.
pub(super) struct Listener {
    front: Weak<Front>,
    pub(super) owner: Owner,
    pub(super) key: ListenerKey,
    pub(super) sessions: Sessions,
    hub: Mutex<Hub>,
    next_holder: AtomicU64,
    stop: AtomicBool,
    wake: OwnedFd,
    _slot: Slot,
}

/// The thread of a listener.
struct Acceptor {
    listener: Arc<Listener>,
    socket: Arc<OwnedFd>,
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
        socket: Arc<OwnedFd>,
        sessions: Sessions,
        slot: Slot,
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
            hub: Mutex::default(),
            next_holder: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            wake,
            _slot: slot,
        });
        let acceptor = Acceptor { listener: Arc::clone(&listener), socket };
        let thread = thread::Builder::new()
            .name("accept".into())
            .stack_size(256 * 1024)
            .spawn(move || acceptor.run())
            .map_err(|error| exhausted(&error))?;
        front.acceptors.enter(Arc::clone(&listener), thread);
        Ok(listener)
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a holder, whose delivery socket's front end is given; `None` when the listener has just ended.
    pub(super) fn add_holder(&self, delivery: Arc<OwnedFd>) -> Option<u64> {
        let mut hub = self.hub();
        if hub.closed {
            return None;
        }
        let id = self.next_holder.fetch_add(1, Ordering::Relaxed);
        hub.holders.insert(id, Holder { delivery, asks: VecDeque::new(), unconfirmed: VecDeque::new() });
        Some(id)
    }

    /// What a holder said.
    pub(super) fn heard(&self, id: u64, said: &[u8]) {
        let mut started = Vec::new();
        let mut hub = self.hub();
        for byte in said {
            let Some(from) = hub.holders.get_mut(&id) else { return };
            match *byte {
                holder::ASK | holder::ASK_REPORT if from.asks.len() < MAX_ASKS => {
                    from.asks.push_back(*byte == holder::ASK_REPORT);
                }
                holder::TAKEN => started.extend(from.unconfirmed.pop_front()),
                _ => {}
            }
        }
        self.deal(&mut hub);
        drop(hub);
        for (finished, stream) in started {
            self.start_pump(finished, stream);
        }
    }

    /// A holder has gone: what it had not taken goes to others. True when it was the last, and the listener ends.
    pub(super) fn remove_holder(&self, id: u64) -> bool {
        let mut hub = self.hub();
        if let Some(gone) = hub.holders.remove(&id) {
            for (finished, _) in gone.unconfirmed.into_iter().rev() {
                hub.ready.push_front(finished);
            }
        }
        if hub.holders.is_empty() {
            hub.closed = true;
            let undelivered: Vec<_> = hub.ready.drain(..).collect();
            drop(hub);
            self.abandon(undelivered);
            return true;
        }
        self.deal(&mut hub);
        false
    }

    fn abandon(&self, undelivered: Vec<Finished>) {
        for finished in undelivered {
            if let Some(front) = self.front.upgrade() {
                front.connections.leave(&finished.connection);
            }
            handshake::abandon(finished.established);
        }
    }

    /// A handshake has ended well.
    fn finished(&self, finished: Finished) {
        let mut hub = self.hub();
        if hub.closed {
            drop(hub);
            return self.abandon(vec![finished]);
        }
        hub.ready.push_back(finished);
        self.deal(&mut hub);
    }

    /// A handshake has failed: counted, logged, and kept for holders that asked for reports.
    fn failed(&self, failure: Failure) {
        tracing::debug!(listener = ?self.key, code = ?failure.code, "handshake failed: {failure}");
        let mut hub = self.hub();
        if !hub.holders.values().any(|holder| holder.asks.contains(&true)) {
            return;
        }
        hub.reports.push_back(failure);
        if hub.reports.len() > MAX_REPORTS {
            hub.reports.pop_front();
        }
        self.deal(&mut hub);
    }

    /// Deals what is ready, round robin, to those that have asked.
    fn deal(&self, hub: &mut Hub) {
        while let Some(report) = hub.reports.front() {
            let message = report_body(report);
            let Some(id) = next_asker(hub, true) else { break };
            hub.reports.pop_front();
            hub.last_served = id;
            if let Some(to) = hub.holders.get_mut(&id) {
                forget_ask(to, true);
                // A holder that cannot be told has gone, and its end will be seen.
                let _ = luassl_keeper_ipc::transport::send(
                    to.delivery.as_fd(),
                    &message,
                    &[],
                    SendFlags::DONTWAIT,
                );
            }
        }
        while !hub.ready.is_empty() {
            let Some(id) = next_asker(hub, false) else { break };
            let Some(finished) = hub.ready.pop_front() else { break };
            hub.last_served = id;
            let Some(to) = hub.holders.get_mut(&id) else { break };
            forget_ask(to, false);
            match deliver(&to.delivery, &finished) {
                Ok(stream) => to.unconfirmed.push_back((finished, stream)),
                Err(failure) => {
                    tracing::debug!("delivery failed, the connection goes to another holder: {failure}");
                    hub.ready.push_front(finished);
                }
            }
        }
    }

    fn start_pump(&self, finished: Finished, stream: OwnedFd) {
        let Some(front) = self.front.upgrade() else { return };
        let shutdown = front.limits().shutdown();
        Pump::new(front, finished.connection, finished.established.tls, stream, shutdown).start();
    }

    /// How many connections wait for a holder.
    fn waiting(&self) -> usize {
        let hub = self.hub();
        hub.ready.len() + hub.holders.values().map(|holder| holder.unconfirmed.len()).sum::<usize>()
    }
}

/// The next holder, round robin after the one that was served last, that has an ask for this kind of news.
fn next_asker(hub: &Hub, report: bool) -> Option<u64> {
    let wants = |holder: &Holder| holder.asks.iter().any(|reports| !report || *reports);
    let after = hub.holders.range(hub.last_served + 1..).find(|(_, holder)| wants(holder));
    after.or_else(|| hub.holders.iter().find(|(_, holder)| wants(holder))).map(|(id, _)| *id)
}

fn forget_ask(holder: &mut Holder, report: bool) {
    if let Some(at) = holder.asks.iter().position(|reports| !report || *reports) {
        holder.asks.remove(at);
    }
}

fn report_body(failure: &Failure) -> Vec<u8> {
    let result = HandshakeResult { error: Some(failure.clone()), info: None };
    body(&Delivery { token: Token::new([0; 16]), result })
}

fn body(delivery: &Delivery) -> Vec<u8> {
    // Only a message that no reader would take is left out: it cannot be written, or is above the bound.
    to_body(delivery).ok().filter(|body| body.len() <= MAX_RESULT).unwrap_or_default()
}

/// Sends a finished connection; returns the front's end of its stream.
fn deliver(to: &OwnedFd, finished: &Finished) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = sockets::stream_pair()?;
    let info = Some(finished.established.info.clone());
    let message =
        body(&Delivery { token: finished.connection.token, result: HandshakeResult { error: None, info } });
    luassl_keeper_ipc::transport::send(to.as_fd(), &message, &[theirs.as_fd()], SendFlags::DONTWAIT)
        .map_err(|error| Failure::new(ErrorCode::Limit, format!("cannot deliver: {error}")))?;
    Ok(ours)
}

impl Acceptor {
    fn run(self) {
        while !self.is_stopping() {
            let Some(front) = self.listener.front.upgrade() else { return };
            match self.next_socket(&front) {
                Some((tcp, slots)) => self.begin(&front, tcp, slots),
                None => drop(front),
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.listener.stop.load(Ordering::SeqCst)
    }

    /// Waits for a peer, within the bounds; `None` when the caller should look again.
    fn next_socket(&self, front: &Front) -> Option<(OwnedFd, Slots)> {
        let limits = front.limits();
        let bound = limits.undelivered_per_owner.min(limits.undelivered) as usize;
        if self.listener.waiting() >= bound {
            self.pause();
            return None;
        }
        let Some(slots) = Slots::take(front, &self.listener.sessions.asker) else {
            self.pause();
            return None;
        };
        self.wait_readable()?;
        match accept_with(&*self.socket, SocketFlags::CLOEXEC) {
            Ok(tcp) => Some((tcp, slots)),
            // Another process was faster, the peer has gone, or the thread is to stop.
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {
                None
            }
            Err(error) => {
                tracing::warn!("accept failed: {error}");
                self.pause();
                None
            }
        }
    }

    fn wait_readable(&self) -> Option<()> {
        let mut polled =
            [PollFd::new(&*self.socket, PollFlags::IN), PollFd::new(&self.listener.wake, PollFlags::IN)];
        poll(&mut polled, None).ok()?;
        let revents = polled[0].revents();
        if revents.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            self.pause();
        }
        revents.contains(PollFlags::IN).then_some(())
    }

    fn pause(&self) {
        let nanos = i64::try_from(BACK_OFF.as_nanos()).unwrap_or(0);
        let mut polled = [PollFd::new(&self.listener.wake, PollFlags::IN)];
        let _ = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: nanos }));
    }

    /// Hands an accepted socket to a handshake thread.
    fn begin(&self, front: &Arc<Front>, tcp: OwnedFd, slots: Slots) {
        let (listener, front_for_job) = (Arc::clone(&self.listener), Arc::clone(front));
        front.signers.spawn(Box::pin(async move {
            serve(&listener, &front_for_job, tcp, slots).await;
        }));
    }
}

/// One accepted connection, from its socket to the hub.
async fn serve(listener: &Listener, front: &Arc<Front>, tcp: OwnedFd, slots: Slots) {
    let session = listener.sessions.session(front, Role::Server, None, None, None);
    let deadline = front.limits().handshake();
    let outcome = match session {
        Ok(ssl) => handshake::handshake(ssl, tcp, Role::Server, deadline).await,
        Err(failure) => Err(failure),
    };
    drop(slots.handshake);
    let finished = outcome.and_then(|established| {
        let limits = front.limits();
        let bound = Bound { owner: limits.undelivered_per_owner, all: Some(limits.undelivered) };
        let undelivered = front.quotas.take(&listener.owner, Kind::Undelivered, 1, bound)?;
        let connection = front.connections.enter(listener.owner.clone(), true, slots.connection)?;
        Ok(Finished { connection, established, _slot: undelivered })
    });
    match finished {
        Ok(finished) => listener.finished(finished),
        Err(failure) => {
            front.counters.handshake_failed(&failure);
            listener.failed(failure);
        }
    }
}

/// What one connection takes of its owner's bounds, before it is accepted.
struct Slots {
    handshake: Slot,
    connection: Slot,
}

impl Slots {
    fn take(front: &Front, asker: &Asker) -> Option<Self> {
        let limits = front.limits();
        let take = |kind, own, all| {
            front.quotas.take(&asker.owner, kind, 1, Bound { owner: own, all: Some(all) }).ok()
        };
        let connections = front.connection_bound(asker);
        Some(Self {
            handshake: take(Kind::Handshakes, limits.handshakes_per_owner, limits.handshakes)?,
            connection: take(Kind::Connections, connections, limits.connections)?,
        })
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
        let found = running.iter().find(|(listener, _)| listener.key == *key && !listener.hub().closed);
        found.map(|(listener, _)| Arc::clone(listener))
    }

    /// Stops a listener's thread on a thread made for that, since a system call of a client's making may hold it:
    /// it is interrupted until it has confirmed. shutdown(2) would end the socket for all who share it. The last
    /// holder's delivery socket is closed when the listening socket has been: its end of file tells a program that
    /// waits for it that the address is free.
    pub(super) fn stop(&self, listener: &Arc<Listener>, delivery: Arc<OwnedFd>) {
        let mut running = self.running();
        let Some(at) = running.iter().position(|(other, _)| Arc::ptr_eq(other, listener)) else { return };
        let (listener, thread) = running.swap_remove(at);
        drop(running);
        listener.stop.store(true, Ordering::SeqCst);
        // An eventfd that is full has been written to already.
        let _ = rustix::io::write(&listener.wake, &1_u64.to_ne_bytes());
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
