//! The thread that accepts a listener's connections, and the handshake of each connection.
//!
//! A program's listening socket shares its open file, O_NONBLOCK included, with the program, and accept has no flag
//! that makes a single call non-blocking. So each listener has its own thread. If accept blocks, only this listener
//! waits.

use crate::accept::listener::Listener;
use crate::{
    accept::{
        dispatcher::{Dispatcher, Finished},
        half_open::{self, Dropped, HalfOpen, Sources},
    },
    authorization::{
        admission,
        authority::Authority,
        principal::Principal,
        quota::{Bound, Kind, QuotaGuard},
    },
    context::Peer,
    handshake::{self, Established, Failed},
    runtime::{connection::address_text, sockets, tcp::Tcp},
};
use luassl_protocol::{Failure, Role};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{SocketAddrAny, SocketFlags, acceptfrom_with, sockopt},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// The time that the accepting thread waits before it checks again, if a limit is reached or accepting fails.
const BACK_OFF: Duration = Duration::from_millis(20);

/// No limit, for an amount that has been limited before.
const UNBOUNDED: Bound = Bound { owner: u32::MAX, all: None };

/// The thread of a listener.
pub(super) struct Acceptor {
    listener: Arc<Listener>,
    socket: Arc<Tcp>,
    sources: Sources,
    /// Whether the last failure has been logged.
    complained: bool,
    /// Whether a limit has stopped accepting, and this has been logged.
    waits: bool,
    /// Whether the socket can no longer accept.
    failed: bool,
}

impl Acceptor {
    pub(super) fn new(listener: Arc<Listener>, socket: Arc<Tcp>, sources: Sources) -> Self {
        Self { listener, socket, sources, complained: false, waits: false, failed: false }
    }

    /// Accepts until the listener is stopped, or until its socket no longer listens.
    pub(super) fn run(mut self) {
        while !self.failed && !self.listener.is_stopping() {
            self.move_on();
            if let Some((tcp, slots, half_open)) = self.next_peer() {
                self.begin(tcp, slots, half_open);
            }
        }
    }

    /// Switches to the socket that a reload has supplied. The previous socket is closed.
    fn move_on(&mut self) {
        let Some(socket) = self.listener.next_socket().take() else { return };
        let address = rustix::net::getsockname(&*socket).ok();
        let address = address.as_ref().map(address_text).unwrap_or_default();
        tracing::info!(listener = ?self.listener.key, "it accepts on {address} from now on");
        self.socket = socket;
    }

    /// Waits for a peer, within the limits. Returns `None` if the caller should check again.
    fn next_peer(&mut self) -> Option<(Tcp, Slots, HalfOpen)> {
        if self.listener.is_stalled() {
            self.pause();
            self.listener.dealing(Dispatcher::deal);
            return None;
        }
        self.wait_readable()?;
        let slots = match Slots::take(&self.listener.authority, &self.listener.sessions.principal) {
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
                let half_open = self.admit(&tcp, from)?;
                Some((Tcp::new(tcp), slots, half_open))
            }
            Err(error) => {
                self.not_accepted(error);
                None
            }
        }
    }

    /// Counts a connection as a handshake in progress. Returns `None` if the connection is reset instead.
    fn admit(&self, tcp: &OwnedFd, from: Option<SocketAddrAny>) -> Option<HalfOpen> {
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        // Connections whose peers have already gone share a source that no other connection has.
        let from = from.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.ip());
        let Listener { authority, owner, half_open: of_listener, .. } = &*self.listener;
        match self.sources.admit(owner, from, of_listener, &authority.limits(), half_open::chance()) {
            Ok(half_open) => return Some(half_open),
            Err(Dropped::Early) => authority.counters.dropped_early(owner),
            Err(Dropped::Source) => authority.counters.dropped_by_source(owner),
        }
        // The close then resets the connection without waiting. No other process has the socket.
        let _ = sockopt::set_socket_linger(tcp, Some(Duration::ZERO));
        None
    }

    fn not_accepted(&mut self, error: Errno) {
        match error {
            // Another process accepted first, the peer has gone, or the thread is to stop.
            Errno::WOULDBLOCK | Errno::CONNABORTED | Errno::INTR => {}
            // The socket no longer listens: a process that shares it has shut it down.
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

    /// Waits for a peer. Returns `None` if the thread is woken for another reason.
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

    /// Resets the wake-up. Its reason is checked in any case.
    fn forget_wake(&self) {
        let _ = rustix::io::read(&self.listener.wake, &mut [0; 8]);
    }

    /// Passes an accepted socket to a handshake thread.
    fn begin(&self, tcp: Tcp, slots: Slots, half_open: HalfOpen) {
        let listener = Arc::clone(&self.listener);
        self.listener.runtime.handshake_workers.spawn(Box::pin(async move {
            serve(&listener, tcp, (slots, half_open)).await;
        }));
    }
}

/// Serves one accepted connection, from its socket to the dispatcher.
async fn serve(listener: &Listener, tcp: Tcp, (slots, half_open): (Slots, HalfOpen)) {
    let established = match shake_hands(listener, tcp).await {
        Ok(established) => established,
        Err(failed) => {
            if failed.is_without_hello() {
                listener.authority.counters.hello_late(&listener.sessions.principal.owner);
            }
            refuse(listener, failed.failure.clone());
            failed.part().await;
            return;
        }
    };
    drop((slots.handshake, half_open));
    match finish(listener, established, slots.connection) {
        Ok(finished) => {
            listener.authority.counters.handshake_done(&listener.owner);
            listener.finished(finished);
        }
        Err(failure) => refuse(listener, failure),
    }
}

/// Performs the handshake of one accepted connection, within its deadline.
async fn shake_hands(listener: &Listener, tcp: Tcp) -> Result<Established, Failed> {
    let limits = listener.authority.limits();
    let deadline = limits.handshake();
    let until = Instant::now() + deadline;
    let peer = Peer::New(sockets::peer(tcp.as_fd()));
    let arrived = handshake::arrival(tcp, limits.client_hello()).await?;
    // After a reload the context is built again first. The deadline of the peers includes this time.
    let session = timeout_at(until, listener.sessions.session(Role::Server, None, None, peer)).await;
    let session = session.unwrap_or_else(|_| Err(handshake::not_in_time(deadline)));
    handshake::accepted(session.map_err(Failed::without_alert)?, arrived, until, deadline).await
}

/// Returns a connection that is ready for delivery.
fn finish(listener: &Listener, established: Established, slot: QuotaGuard) -> Result<Finished, Failure> {
    let Listener { authority, runtime, .. } = listener;
    // The limit stops accepting, but accepted connections are delivered. The connections whose handshakes were in
    // progress are added, and these have their own limit.
    let undelivered = authority.quotas.take(&listener.owner, Kind::Undelivered, 1, UNBOUNDED)?;
    let connection = runtime.connections.enter(listener.owner.clone(), true, slot)?;
    connection.rests_on(listener.sessions.standing(Role::Server));
    if let Err(failure) = admission::admit(authority, &connection, established.tls.ssl()) {
        connection.record_end(failure.clone());
        runtime.connections.leave(&connection);
        return Err(failure);
    }
    Ok(Finished { connection, established, _slot: undelivered })
}

fn refuse(listener: &Listener, failure: Failure) {
    listener.authority.counters.handshake_failed(&listener.owner, &failure);
    listener.failed(failure);
}

/// The parts of its owner's limits that one connection takes before it is accepted.
struct Slots {
    handshake: QuotaGuard,
    connection: QuotaGuard,
}

impl Slots {
    fn take(authority: &Authority, principal: &Principal) -> Result<Self, Failure> {
        let limits = authority.limits();
        let take = |kind, own, all| {
            authority.quotas.attempt(&principal.owner, kind, 1, Bound { owner: own, all: Some(all) })
        };
        let connections = authority.connection_bound(principal);
        // This only checks the limit. The part is taken when there is a connection to deliver.
        drop(take(Kind::Undelivered, limits.undelivered_per_owner, limits.undelivered)?);
        Ok(Self {
            handshake: take(Kind::Handshakes, limits.handshakes_per_owner, limits.handshakes)?,
            connection: take(Kind::Connections, connections, limits.connections)?,
        })
    }
}
