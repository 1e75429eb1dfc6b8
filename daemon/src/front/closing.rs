//! Closing what came from clients. A close can wait for as long as a client likes: a TCP socket that lingers, a file of a
//! FUSE file system whose server does not answer, and also a Unix socket, when messages with such descriptors lie in it
//! unread. So no thread that serves anybody closes such a thing, and what one owner sent waits for none of another's.

use super::owner::Owner;
use super::quota::{Account, Slot};
use super::sockets::Tcp;
use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

/// What is to be closed, with its part of the owner's bound.
type Queue = VecDeque<(OwnedFd, Option<Slot>)>;

/// By owner, as long as the owner's thread is at work; none stands for what is nobody's.
static QUEUES: Mutex<BTreeMap<Option<Owner>, Queue>> = Mutex::new(BTreeMap::new());

/// A thread that closes needs next to nothing.
const STACK: usize = 64 * 1024;

/// Closes a descriptor of unknown kind on a thread of its owner's. Whoever brings it does not wait.
pub(super) fn close(fd: OwnedFd, account: Option<&Account>) {
    let slot = account.map(Account::closing);
    let owner = account.map(|account| account.owner().clone());
    match queues().entry(owner.clone()) {
        Entry::Occupied(mut busy) => return busy.get_mut().push_back((fd, slot)),
        Entry::Vacant(idle) => {
            idle.insert(VecDeque::from([(fd, slot)]));
        }
    }
    let thread = thread::Builder::new().name("close".into()).stack_size(STACK);
    let whose = owner.clone();
    if let Err(error) = thread.spawn(move || close_all(&whose)) {
        tracing::error!("no thread to close descriptors on: {error}");
        close_all(&owner);
    }
}

/// A socket of any kind may linger, and only the options of sockets are touched by this.
fn close_all(owner: &Option<Owner>) {
    while let Some((fd, slot)) = next(owner) {
        drop(Tcp::new(fd));
        drop(slot);
    }
}

fn next(owner: &Option<Owner>) -> Option<(OwnedFd, Option<Slot>)> {
    let mut queues = queues();
    let next = queues.get_mut(owner)?.pop_front();
    if next.is_none() {
        queues.remove(owner);
    }
    next
}

/// Every change under the lock is one insertion or removal.
fn queues() -> MutexGuard<'static, BTreeMap<Option<Owner>, Queue>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}
