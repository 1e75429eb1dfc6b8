//! A listener: the state that the accepting thread, the handshakes of its connections and its subscribers share.

use crate::{
    accept::{
        dispatcher::{Dispatcher, Finished},
        half_open::OfListener,
    },
    authorization::{authority::Authority, owner::Owner, quota::QuotaGuard},
    context::SessionFactory,
    runtime::{
        ConnectionRuntime,
        sockets::{self, ClientSocket},
        tcp::Tcp,
    },
    stream::pump::Pump,
};
use luassl_protocol::{ErrorCode, Failure};
use parking_lot::{Mutex, MutexGuard};
use rustix::event::{EventfdFlags, eventfd};
use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The key that distinguishes listeners.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ListenerKey {
    /// A listener that the configuration names.
    Named(String),
    /// A listener that a client owns, by SO_COOKIE.
    Own(u64),
}

/// A listener with its subscribers.
pub(crate) struct Listener {
    pub(super) authority: Arc<Authority>,
    pub(super) runtime: Arc<ConnectionRuntime>,
    pub(crate) owner: Owner,
    pub(super) key: ListenerKey,
    pub(crate) sessions: SessionFactory,
    dispatcher: Mutex<Dispatcher>,
    /// SO_COOKIE of the socket that it accepts on, or is about to accept on.
    cookie: AtomicU64,
    /// The socket that is about to replace the present one.
    next_socket: Mutex<Option<Arc<Tcp>>>,
    pub(super) half_open: OfListener,
    stop: AtomicBool,
    pub(super) wake: OwnedFd,
    _slot: QuotaGuard,
}

impl Listener {
    /// Creates a listener that accepts on `socket` as soon as it has a thread.
    ///
    /// # Errors
    /// Returns an error if no descriptor is left.
    pub(super) fn new(
        (authority, runtime): (Arc<Authority>, Arc<ConnectionRuntime>),
        key: ListenerKey,
        socket: &Tcp,
        sessions: SessionFactory,
        slot: QuotaGuard,
    ) -> Result<Self, Failure> {
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| exhausted(&error))?;
        Ok(Self {
            authority,
            runtime,
            owner: sessions.principal.owner.clone(),
            key,
            sessions,
            dispatcher: Mutex::default(),
            cookie: AtomicU64::new(sockets::cookie(socket.as_fd())?),
            next_socket: Mutex::default(),
            half_open: OfListener::default(),
            stop: AtomicBool::new(false),
            wake,
            _slot: slot,
        })
    }

    pub(super) fn next_socket(&self) -> MutexGuard<'_, Option<Arc<Tcp>>> {
        self.next_socket.lock()
    }

    /// Switches the listener to another socket. Returns false if it already accepts on this socket.
    pub(super) fn move_to(&self, socket: &Arc<Tcp>) -> bool {
        let Ok(cookie) = sockets::cookie(socket.as_fd()) else { return false };
        if self.cookie.swap(cookie, Ordering::SeqCst) == cookie {
            return false;
        }
        *self.next_socket() = Some(Arc::clone(socket));
        self.wake_acceptor();
        true
    }

    fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher.lock()
    }

    /// Adds a subscriber with the front's end of its delivery socket. Returns `None` if the listener has just ended.
    pub(crate) fn add_subscriber(&self, delivery: Arc<ClientSocket>) -> Option<u64> {
        self.dispatcher().add_subscriber(delivery)
    }

    /// Applies a message from a subscriber.
    pub(crate) fn heard(&self, id: u64, said: &[u8]) {
        let taken = self.dealing(|dispatcher| dispatcher.heard(id, said));
        for (finished, stream) in taken {
            self.start_pump(finished, stream);
        }
    }

    /// Removes a subscriber that has gone. The connections that it had not taken go to other subscribers. Returns true
    /// if it was the last subscriber, and the listener ends.
    pub(crate) fn remove_subscriber(&self, id: u64) -> bool {
        let undelivered = self.dealing(|dispatcher| dispatcher.remove_subscriber(id));
        let ends = undelivered.is_some();
        self.abandon(undelivered.unwrap_or_default());
        ends
    }

    /// Adds a connection whose handshake has succeeded.
    pub(super) fn finished(&self, finished: Finished) {
        let refused = self.dealing(|dispatcher| dispatcher.finished(finished));
        self.abandon(refused.into_iter().collect());
    }

    /// Counts and logs a failed handshake, and keeps it for subscribers that asked for reports.
    pub(crate) fn failed(&self, failure: Failure) {
        tracing::debug!(listener = ?self.key, code = ?failure.code, "handshake failed: {failure}");
        self.dealing(|dispatcher| dispatcher.failed(failure));
    }

    /// Changes the dispatcher. If a delivery stalls, the accepting thread tries it again.
    pub(super) fn dealing<T>(&self, change: impl FnOnce(&mut Dispatcher) -> T) -> T {
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
        // If the eventfd is full, a wake-up is already pending.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Ends the listener, because the listening socket will accept no more connections. Subscribers read to the end of
    /// their sockets.
    pub(crate) fn fail(&self) {
        let undelivered = self.dispatcher().fail();
        self.abandon(undelivered);
    }

    /// Ends the connections that no subscriber has taken and that no grant allows any more.
    pub(super) fn drop_withdrawn(&self) {
        let withdrawn = self.dispatcher().drop_withdrawn();
        self.abandon(withdrawn);
    }

    /// Returns whether deliveries wait for subscribers that do not read.
    pub(super) fn is_stalled(&self) -> bool {
        self.dispatcher().is_stalled()
    }

    /// Returns whether it accepts no more connections.
    pub(super) fn is_closed(&self) -> bool {
        self.dispatcher().is_closed()
    }

    /// Tells its thread to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake_acceptor();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn abandon(&self, undelivered: Vec<Finished>) {
        for finished in undelivered {
            self.runtime.connections.leave(&finished.connection);
        }
    }

    fn start_pump(&self, finished: Finished, stream: ClientSocket) {
        let (runtime, shutdown) = (Arc::clone(&self.runtime), self.authority.limits().shutdown());
        Pump::new(runtime, finished.connection, finished.established.tls, stream, shutdown).start();
    }
}

/// Returns the failure for a lack of descriptors or threads.
pub(super) fn exhausted(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Limit, format!("no resources left for a listener: {error}"))
}
