//! Listeners: which thread accepts on which socket, and how finished connections are dealt to subscribers.

mod acceptor;
mod dealing;
#[cfg(test)]
mod dealing_tests;
pub(crate) mod dispatcher;
pub(crate) mod half_open;
mod listener;
pub(crate) mod subscriber;

use crate::{
    accept::half_open::Sources,
    authorization::{
        authority::{Active, Authority},
        quota::QuotaGuard,
    },
    context::SessionFactory,
    runtime::{ConnectionRuntime, interrupt, sockets::ClientSocket, tcp::Tcp},
};
use acceptor::Acceptor;
use listener::exhausted;
pub(super) use listener::{Listener, ListenerKey};
use luassl_protocol::{Failure, Role};
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// The size of the stack of a thread that accepts, in bytes.
const STACK: usize = 256 * 1024;

/// The interval at which a thread that is to stop is interrupted, until it has confirmed.
const INTERRUPT_EVERY: Duration = Duration::from_millis(5);

/// The running listeners with their threads.
pub(super) struct Acceptors {
    authority: Arc<Authority>,
    runtime: Arc<ConnectionRuntime>,
    sources: Sources,
    /// The sockets of the listeners that the configuration names.
    named: Mutex<HashMap<String, Arc<Tcp>>>,
    running: Mutex<Vec<(Arc<Listener>, JoinHandle<()>)>>,
}

impl Acceptors {
    pub(super) fn new(authority: Arc<Authority>, runtime: Arc<ConnectionRuntime>) -> Self {
        let (sources, named, running) = (Sources::default(), Mutex::default(), Mutex::default());
        Self { authority, runtime, sources, named, running }
    }

    fn running(&self) -> MutexGuard<'_, Vec<(Arc<Listener>, JoinHandle<()>)>> {
        self.running.lock()
    }

    fn named(&self) -> MutexGuard<'_, HashMap<String, Arc<Tcp>>> {
        self.named.lock()
    }

    /// Keeps the sockets of listeners that the configuration names, or will name.
    pub(super) fn keep(&self, sockets: Vec<(String, OwnedFd)>) {
        self.named().extend(sockets.into_iter().map(|(name, socket)| (name, Arc::new(Tcp::new(socket)))));
    }

    /// Drops the sockets of listeners that the configuration does not name.
    pub(super) fn retain(&self, is_configured: impl Fn(&String) -> bool) {
        self.named().retain(|name, _| is_configured(name));
    }

    /// Returns the socket of a listener that the configuration names.
    pub(super) fn socket_of(&self, name: &str) -> Option<Arc<Tcp>> {
        self.named().get(name).cloned()
    }

    /// Starts accepting on `socket`.
    ///
    /// # Errors
    /// Returns an error if no descriptor or thread is left.
    pub(super) fn start(
        &self,
        key: ListenerKey,
        socket: Arc<Tcp>,
        sessions: SessionFactory,
        slot: QuotaGuard,
    ) -> Result<Arc<Listener>, Failure> {
        let parts = (Arc::clone(&self.authority), Arc::clone(&self.runtime));
        let listener = Arc::new(Listener::new(parts, key, &socket, sessions, slot)?);
        let acceptor = Acceptor::new(Arc::clone(&listener), socket, self.sources.clone());
        let thread = thread::Builder::new()
            .name("accept".into())
            .stack_size(STACK)
            .spawn(move || acceptor.run())
            .map_err(|error| exhausted(&error))?;
        self.running().push((Arc::clone(&listener), thread));
        Ok(listener)
    }

    /// Returns the running listener for the key, independently of its owner.
    pub(super) fn find(&self, key: &ListenerKey) -> Option<Arc<Listener>> {
        let running = self.running();
        let found = running.iter().find(|(listener, _)| listener.key == *key && !listener.is_closed());
        found.map(|(listener, _)| Arc::clone(listener))
    }

    /// Switches the running configured listeners to the sockets in force, and ends those that are no longer configured.
    /// The subscribers of an ended listener read to the end of their sockets.
    pub(super) fn follow(self: &Arc<Self>) {
        let running: Vec<_> = self.running().iter().map(|(listener, _)| Arc::clone(listener)).collect();
        for listener in running {
            let ListenerKey::Named(name) = &listener.key else { continue };
            match self.socket_of(name) {
                Some(socket) if listener.move_to(&socket) => interrupt_until_moved(self, listener),
                Some(_) => {}
                None => {
                    tracing::warn!(listener = ?listener.key, "it is configured no more, and ends");
                    listener.fail();
                }
            }
        }
    }

    /// Returns the running listeners that no grant allows any more.
    pub(super) fn withdrawn(&self, active: &Active) -> Vec<Arc<Listener>> {
        let running = self.running();
        let open = running.iter().map(|(listener, _)| listener).filter(|one| !one.is_closed());
        open.filter(|one| one.sessions.standing(Role::Server).judge(active).is_err()).cloned().collect()
    }

    /// Ends the connections that no subscriber has taken and that no grant allows any more.
    pub(super) fn drop_withdrawn(&self) {
        let running: Vec<_> = self.running().iter().map(|(listener, _)| Arc::clone(listener)).collect();
        for listener in running {
            listener.drop_withdrawn();
        }
    }

    /// Interrupts a listener's thread. Returns false if the thread has ended.
    fn interrupt(&self, listener: &Arc<Listener>) -> bool {
        let running = self.running();
        let found = running.iter().find(|(other, _)| Arc::ptr_eq(other, listener));
        found.filter(|(_, thread)| !thread.is_finished()).is_some_and(|(_, thread)| {
            interrupt::interrupt(thread);
            true
        })
    }

    /// Stops a listener's thread on a thread that is started for this purpose, because a system call that a client
    /// caused may block it. It is interrupted until it has confirmed. shutdown(2) would end the socket for all
    /// processes that share it. The last subscriber's delivery socket is closed after the listening socket. Its end of
    /// file tells a program that waits for it that the address is free.
    pub(super) fn stop(&self, listener: &Arc<Listener>, delivery: Arc<ClientSocket>) {
        let mut running = self.running();
        let Some(at) = running.iter().position(|(other, _)| Arc::ptr_eq(other, listener)) else { return };
        let (listener, thread) = running.swap_remove(at);
        drop(running);
        listener.stop();
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

impl Drop for Acceptors {
    /// Stops the listeners, because their threads hold the rest of the front's state.
    fn drop(&mut self) {
        self.running().iter().for_each(|(listener, _)| listener.stop());
    }
}

/// Interrupts a listener's thread until it has switched sockets. An accept that waits because its peer has gone would
/// keep the old socket open.
fn interrupt_until_moved(acceptors: &Arc<Acceptors>, listener: Arc<Listener>) {
    let acceptors = Arc::clone(acceptors);
    let interrupting = move || {
        while listener.next_socket().is_some() && acceptors.interrupt(&listener) {
            thread::sleep(INTERRUPT_EVERY);
        }
    };
    if let Err(error) = thread::Builder::new().name("move".into()).spawn(interrupting) {
        tracing::error!("no thread to move a listener with: {error}");
    }
}
