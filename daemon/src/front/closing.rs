//! Closing what came from clients. A close can wait for as long as a client likes: a TCP socket that lingers, a file of a
//! FUSE file system whose server does not answer, and also a Unix socket, when messages with such descriptors lie in it
//! unread. So no thread that serves anybody closes such a thing, and what one owner sent waits for none of another's.
//!
//! Each owner has two threads at most. One closes descriptors that were received: close(2) asks a FUSE server, and waits
//! for it without end. The other closes whole sockets with descriptors that nobody received: there the kernel asks no FUSE
//! server (a message in flight has no open descriptor to flush), so that sockets which are reset do not pile up behind a
//! file that never answers. What lingers is interrupted by whatever comes next.

use super::interrupt;
use super::owner::Owner;
use super::quota::{Account, Slot};
use super::sockets::Tcp;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// What a thread closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Descriptors that were received.
    Received,
    /// Unix sockets in which descriptors lie.
    Sockets,
}

/// Whose things a thread closes; none stands for what is nobody's.
type Place = (Option<Owner>, What);

/// What is to be closed, with its part of the owner's bound, and the thread that is at it. There is none where the kernel
/// gave none: the next thing to be closed asks again.
#[derive(Default)]
struct Closer {
    queue: VecDeque<(Vec<OwnedFd>, Option<Slot>)>,
    thread: Option<JoinHandle<()>>,
}

/// Those that have something to close.
static CLOSERS: Mutex<BTreeMap<Place, Closer>> = Mutex::new(BTreeMap::new());

/// A thread that closes needs next to nothing.
const STACK: usize = 64 * 1024;

/// Closes descriptors of unknown kind on a thread of their owner's. Whoever brings them does not wait.
pub(super) fn close(fds: Vec<OwnedFd>, account: Option<&Account>) {
    if !fds.is_empty() {
        enter(fds, account, What::Received);
    }
}

/// Closes a Unix socket in which descriptors lie unread, likewise.
pub(super) fn close_socket(fd: OwnedFd, account: Option<&Account>) {
    enter(vec![fd], account, What::Sockets);
}

fn enter(fds: Vec<OwnedFd>, account: Option<&Account>, what: What) {
    let slot = account.map(|account| account.waiting(fds.len()));
    let place = (account.map(|account| account.owner().clone()), what);
    let mut closers = closers();
    let closer = closers.entry(place.clone()).or_default();
    closer.queue.push_back((fds, slot));
    if let Some(busy) = &closer.thread {
        // Ends the wait for a peer that does not read (SO_LINGER), however often a client makes one.
        return interrupt::interrupt(busy);
    }
    match start(place) {
        Ok(thread) => closer.thread = Some(thread),
        Err(error) => tracing::error!("no thread to close descriptors on, they wait: {error}"),
    }
}

fn start(place: Place) -> io::Result<JoinHandle<()>> {
    interrupt::install()?;
    let thread = thread::Builder::new().name("close".into()).stack_size(STACK);
    thread.spawn(move || close_all(&place))
}

/// A socket of any kind may linger, and only the options of sockets are touched by this.
fn close_all(place: &Place) {
    while let Some((fds, slot)) = next(place) {
        fds.into_iter().for_each(|fd| drop(Tcp::new(fd)));
        drop(slot);
    }
}

/// The next thing to close; without one the thread ends, and is forgotten while the lock is held.
fn next(place: &Place) -> Option<(Vec<OwnedFd>, Option<Slot>)> {
    let mut closers = closers();
    let next = closers.get_mut(place)?.queue.pop_front();
    if next.is_none() {
        closers.remove(place);
    }
    next
}

/// Every change under the lock is one insertion or removal.
fn closers() -> MutexGuard<'static, BTreeMap<Place, Closer>> {
    CLOSERS.lock().unwrap_or_else(PoisonError::into_inner)
}
