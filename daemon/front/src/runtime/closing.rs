//! Closing what came from clients. A close can wait for as long as a client likes: a TCP socket that lingers, a file of a
//! FUSE file system whose server does not answer, and also a Unix socket, when messages with such descriptors lie in it
//! unread. So no thread that serves anybody closes such a thing, and what one owner sent waits for none of another's.
//!
//! Each owner has two threads at most. One closes descriptors that were received: close(2) asks a FUSE server, and waits
//! for it without end. The other closes whole sockets with descriptors that nobody received: there the kernel asks no FUSE
//! server (a message in flight has no open descriptor to flush), so that sockets which are reset do not pile up behind a
//! file that never answers. What lingers is interrupted, again and again, until there is nothing left to close: signals that
//! come close together are one, and nothing has to come after the last close.

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

/// What a thread closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
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
    queue: VecDeque<(Vec<OwnedFd>, Option<QuotaGuard>)>,
    thread: Option<JoinHandle<()>>,
}

/// Those that have something to close, and whether a thread interrupts them.
struct Closers {
    by_place: BTreeMap<Place, Closer>,
    is_interrupted: bool,
}

static CLOSERS: Mutex<Closers> = Mutex::new(Closers { by_place: BTreeMap::new(), is_interrupted: false });

/// How often threads that close are interrupted, until they have nothing left.
const INTERRUPT_EVERY: Duration = Duration::from_millis(5);

/// A thread that closes needs next to nothing.
const STACK: usize = 64 * 1024;

/// Closes descriptors of unknown kind on a thread of their owner's. Whoever brings them does not wait.
pub(crate) fn close(fds: Vec<OwnedFd>, account: Option<&Account>) {
    if !fds.is_empty() {
        enter(fds, account, What::Received);
    }
}

/// Closes a Unix socket in which descriptors lie unread, likewise.
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
        // Ends the wait for a peer that does not read (SO_LINGER) before the other thread would.
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

/// Starts the thread that interrupts, where there is none. Without it what lingers waits for the next thing to be closed,
/// which asks again.
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

/// Interrupts every thread that closes; false where there is none any more, and the caller ends.
fn interrupt_all() -> bool {
    thread::sleep(INTERRUPT_EVERY);
    let mut closers = closers();
    let busy = closers.by_place.values().filter_map(|closer| closer.thread.as_ref());
    let count = busy.inspect(|thread| interrupt::interrupt(thread)).count();
    closers.is_interrupted = count > 0;
    closers.is_interrupted
}

/// A socket of any kind may linger, and only the options of sockets are touched by this.
fn close_all(place: &Place) {
    while let Some((fds, slot)) = next(place) {
        fds.into_iter().for_each(|fd| drop(Tcp::new(fd)));
        drop(slot);
    }
}

/// The next thing to close; without one the thread ends, and is forgotten while the lock is held.
fn next(place: &Place) -> Option<(Vec<OwnedFd>, Option<QuotaGuard>)> {
    let mut closers = closers();
    let next = closers.by_place.get_mut(place)?.queue.pop_front();
    if next.is_none() {
        closers.by_place.remove(place);
    }
    next
}

/// Every change under the lock is one insertion, removal or assignment.
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

    /// How many come at once.
    const BURST: usize = 32;

    /// A socket in which a TCP socket lies that lingers, the peers of both.
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
