//! Closes descriptors that came from clients. A client can make a close wait for any length of time. Examples are a TCP
//! socket that lingers, a file of a FUSE file system whose server does not answer, and a Unix socket with unread
//! messages that contain such descriptors. So no thread that serves clients closes such a descriptor, and the
//! descriptors of one owner do not wait for those of another owner.
//!
//! Each owner has at most two threads. One closes descriptors that were received: close(2) asks a FUSE server, and
//! waits for it without a time limit. The other closes whole sockets with descriptors that were not received. For these
//! the kernel asks no FUSE server, because a message in flight has no open descriptor to flush. So sockets that are
//! reset do not accumulate behind a file that never answers. A close that lingers is interrupted repeatedly until
//! nothing is left to close. Signals that arrive close together are merged, and no signal needs to follow the last
//! close.

use crate::authorization::owner::Owner;
use crate::authorization::quota::{Account, QuotaGuard};
use crate::runtime::interrupt;
use crate::runtime::tcp::Tcp;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
    time::Duration,
};

/// The kind of objects that a thread closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Descriptors that were received.
    Received,
    /// Unix sockets that contain descriptors.
    Sockets,
}

/// The owner and the kind of the objects that a thread closes. `None` stands for objects without an owner.
type Place = (Option<Owner>, What);

/// The objects to be closed, with their part of the owner's limit, and the thread that closes them. There is no thread
/// if the kernel could not start one. The next object to be closed tries again.
#[derive(Default)]
struct Closer {
    queue: VecDeque<(Vec<OwnedFd>, Option<QuotaGuard>)>,
    thread: Option<JoinHandle<()>>,
}

/// The closers that have objects to close, and whether a thread interrupts them.
struct Closers {
    by_place: BTreeMap<Place, Closer>,
    is_interrupted: bool,
}

static CLOSERS: Mutex<Closers> = Mutex::new(Closers { by_place: BTreeMap::new(), is_interrupted: false });

/// The interval at which threads that close are interrupted, until they have nothing left to close.
const INTERRUPT_EVERY: Duration = Duration::from_millis(5);

/// The size of the stack of a thread that closes, in bytes. Such a thread needs very little.
const STACK: usize = 64 * 1024;

/// Closes descriptors of unknown kind on a thread of their owner. The caller does not wait.
pub(crate) fn close(fds: Vec<OwnedFd>, account: Option<&Account>) {
    if !fds.is_empty() {
        enter(fds, account, What::Received);
    }
}

/// Closes a Unix socket with unread descriptors, on a thread of its owner. The caller does not wait.
pub(crate) fn close_socket(fd: OwnedFd, account: Option<&Account>) {
    enter(vec![fd], account, What::Sockets);
}

fn enter(fds: Vec<OwnedFd>, account: Option<&Account>, what: What) {
    let slot = account.map(|account| account.waiting(fds.len()));
    let place = (account.map(|account| account.owner().clone()), what);
    let mut closers = closers();
    interrupt_until_closed(&mut closers);
    let closer = closers.by_place.entry(place.clone()).or_default();
    closer.queue.push_back((fds, slot));
    if let Some(busy) = &closer.thread {
        // Ends the wait for a peer that does not read (SO_LINGER) before the other thread would end it.
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

/// Starts the thread that interrupts, if it does not run. If it cannot be started, a close that lingers waits for the
/// next object to be closed, which tries again.
fn interrupt_until_closed(closers: &mut Closers) {
    if closers.is_interrupted {
        return;
    }
    let thread = thread::Builder::new().name("unlinger".into()).stack_size(STACK);
    match thread.spawn(|| while interrupt_all() {}) {
        Ok(_) => closers.is_interrupted = true,
        Err(error) => tracing::error!("no thread to interrupt closes with: {error}"),
    }
}

/// Interrupts each thread that closes. Returns false if there is no such thread, and the caller ends.
fn interrupt_all() -> bool {
    thread::sleep(INTERRUPT_EVERY);
    let mut closers = closers();
    let busy = closers.by_place.values().filter_map(|closer| closer.thread.as_ref());
    let count = busy.inspect(|thread| interrupt::interrupt(thread)).count();
    closers.is_interrupted = count > 0;
    closers.is_interrupted
}

/// Closes the objects of a place. A socket of any kind may linger, and this affects only the options of sockets.
fn close_all(place: &Place) {
    while let Some((fds, slot)) = next(place) {
        fds.into_iter().for_each(|fd| drop(Tcp::new(fd)));
        drop(slot);
    }
}

/// Returns the next objects to close. If there are none, the thread ends, and its entry is removed while the lock is
/// held.
fn next(place: &Place) -> Option<(Vec<OwnedFd>, Option<QuotaGuard>)> {
    let mut closers = closers();
    let next = closers.by_place.get_mut(place)?.queue.pop_front();
    if next.is_none() {
        closers.by_place.remove(place);
    }
    next
}

/// Locks the closers. Each change under the lock is one insertion, removal or assignment.
fn closers() -> MutexGuard<'static, Closers> {
    CLOSERS.lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{authorization::quota::Quotas, tests::descriptors::lingering};
    use rustix::net::{SendFlags, sockopt};
    use std::{
        net::TcpStream,
        os::{fd::AsFd, unix::net::UnixStream},
        time::Instant,
    };

    /// The number of sockets in one burst.
    const BURST: usize = 32;

    /// Returns a socket that contains a lingering TCP socket, and the peers of both.
    fn unread(linger: Duration) -> (OwnedFd, (UnixStream, TcpStream)) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (socket, peer) = lingering();
        sockopt::set_socket_linger(&socket, Some(linger)).unwrap();
        let sent =
            luassl_keeper_ipc::transport::send(&theirs, b"x", &[socket.as_fd()], SendFlags::empty()).unwrap();
        assert_eq!(sent, 1);
        (ours.into(), (theirs, peer))
    }

    #[test]
    fn finding_5_a_burst_that_lingers_is_closed_in_the_silence_after_it() {
        let quotas = Quotas::default();
        let account = quotas.account(&Owner { socket: "burst".into(), uid: 1 });
        let (sockets, peers): (Vec<_>, Vec<_>) =
            (0..BURST).map(|_| unread(Duration::from_secs(1000))).unzip();
        for socket in sockets {
            close_socket(socket, Some(&account));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while quotas.waiting() > 0 {
            assert!(Instant::now() < deadline, "{} of {BURST} wait", quotas.waiting());
            thread::sleep(INTERRUPT_EVERY);
        }
        drop(peers);
    }

    /// Positive control of the test above.
    #[test]
    fn such_a_close_waits_where_nobody_interrupts_it() {
        let (socket, _peers) = unread(Duration::from_secs(1));
        let begin = Instant::now();
        drop(socket);
        assert!(begin.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn the_thread_that_interrupts_comes_again_when_it_is_needed() {
        let place = || (Some(Owner { socket: "again".into(), uid: 1 }), What::Sockets);
        let quotas = Quotas::default();
        let account = quotas.account(&place().0.unwrap());
        for _ in 0..2 {
            let (socket, _peers) = unread(Duration::from_secs(1000));
            close_socket(socket, Some(&account));
            let deadline = Instant::now() + Duration::from_secs(60);
            while closers().by_place.contains_key(&place()) {
                assert!(Instant::now() < deadline);
                thread::sleep(INTERRUPT_EVERY);
            }
        }
        assert_eq!(quotas.waiting(), 0);
    }
}
