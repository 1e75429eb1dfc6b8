//! Connections by token: what the control socket can request of them, and how a request reaches the pump that runs
//! them.

use crate::authorization::{
    owner::Owner,
    quota::{Account, QuotaGuard},
    standing::Standing,
};
use luassl_protocol::{Done, ErrorCode, Failure, Info, Status, Token};
use luassl_tls::Negotiated;
use openssl::ssl::SslRef;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{HashMap, VecDeque},
    os::fd::BorrowedFd,
    sync::Arc,
    task::{Poll, Waker},
};
use tokio::sync::oneshot;

/// The number of ended connections whose verdict can still be queried, for all owners. Above it the oldest verdict of
/// the owner with the most verdicts is dropped.
const REMEMBERED_ENDS: usize = 4096;

/// The number of such connections of one owner.
const REMEMBERED_ENDS_PER_OWNER: usize = 1024;

/// The number of requests that may wait for one connection's pump.
const INBOX_LIMIT: usize = 64;

/// A question that is answered on the thread that runs the connection.
pub(crate) type Question = Box<dyn FnOnce(&SslRef, Option<BorrowedFd<'_>>) + Send>;

/// A command from the control socket to a pump.
pub(crate) enum Command {
    /// Inspect the session or its socket.
    Ask(Question),
    /// Send close_notify after all data that Lua wrote.
    Close(oneshot::Sender<Result<Done, Failure>>),
    /// Renegotiate, update keys or request a certificate, depending on the session.
    Renegotiate(oneshot::Sender<Result<Done, Failure>>),
    /// End the connection at once, without close_notify, because no grant allows it any more.
    Withdraw(Failure),
}

#[derive(Default)]
struct Inbox {
    commands: VecDeque<Command>,
    waker: Option<Waker>,
    ended: bool,
    /// Why no grant allows the connection any more.
    withdrawn: Option<Failure>,
    /// Whether the withdrawal has been reported to the task that runs the connection.
    withdrawal_told: bool,
}

/// The basis of a connection.
#[derive(Default)]
struct Basis {
    standing: Option<Arc<Standing>>,
    /// `None` during the handshake.
    negotiated: Option<Negotiated>,
}

/// The stage of a connection, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the end of the handshake, or not taken by any program.
    Early,
    /// In stream mode.
    Stream,
    /// In lock-step mode.
    LockStep,
}

/// One connection, as the control socket uses it.
pub(crate) struct Connection {
    pub(crate) token: Token,
    pub(crate) owner: Owner,
    /// Whether it has the server role.
    pub(crate) server: bool,
    basis: Mutex<Basis>,
    stage: Mutex<Stage>,
    inbox: Mutex<Inbox>,
    end: Mutex<Option<Failure>>,
    slot: QuotaGuard,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl Connection {
    pub(crate) fn new(token: Token, owner: Owner, server: bool, slot: QuotaGuard) -> Self {
        Self {
            token,
            owner,
            server,
            basis: Mutex::default(),
            stage: Mutex::new(Stage::Early),
            inbox: Mutex::default(),
            end: Mutex::default(),
            slot,
        }
    }

    /// Records the basis of the connection.
    pub(crate) fn rests_on(&self, standing: Arc<Standing>) {
        lock(&self.basis).standing = Some(standing);
    }

    /// Records the result of the handshake.
    pub(crate) fn negotiated(&self, negotiated: Negotiated) {
        lock(&self.basis).negotiated = Some(negotiated);
    }

    /// Returns the basis of the connection, and the result of its handshake.
    pub(crate) fn standing(&self) -> (Option<Arc<Standing>>, Option<Negotiated>) {
        let basis = lock(&self.basis);
        (basis.standing.clone(), basis.negotiated)
    }

    pub(crate) fn is_now(&self, stage: Stage) {
        *lock(&self.stage) = stage;
    }

    pub(crate) fn stage(&self) -> Stage {
        *lock(&self.stage)
    }

    /// Ends the connection, because no grant allows it any more.
    pub(crate) fn withdraw(&self, failure: Failure) {
        self.record_end(failure.clone());
        let mut inbox = lock(&self.inbox);
        inbox.withdrawn.get_or_insert(failure);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }

    /// Returns whether no grant allows the connection any more.
    pub(crate) fn is_withdrawn(&self) -> bool {
        lock(&self.inbox).withdrawn.is_some()
    }

    /// Waits until no grant allows the connection any more. Used while no task receives its commands yet.
    pub(crate) async fn withdrawn(&self) -> Failure {
        std::future::poll_fn(|cx| {
            let mut inbox = lock(&self.inbox);
            if let Some(failure) = &inbox.withdrawn {
                return Poll::Ready(failure.clone());
            }
            inbox.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Returns the account on which descriptors from its owner are closed.
    pub(crate) fn account(&self) -> Account {
        self.slot.account()
    }

    /// Sends a command to the pump.
    ///
    /// # Errors
    /// Returns an error if the connection has ended, or if too many commands already wait for it.
    pub(crate) fn send(&self, command: Command) -> Result<(), Failure> {
        let mut inbox = lock(&self.inbox);
        if inbox.ended {
            return Err(unknown_token());
        }
        if inbox.commands.len() >= INBOX_LIMIT {
            return Err(Failure::new(ErrorCode::Limit, "too many requests wait for this connection"));
        }
        inbox.commands.push_back(command);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Returns the next command. The waker is kept for the command after it.
    pub(crate) fn next_command(&self, waker: &Waker) -> Option<Command> {
        let mut inbox = lock(&self.inbox);
        if !inbox.withdrawal_told
            && let Some(failure) = inbox.withdrawn.clone()
        {
            inbox.withdrawal_told = true;
            return Some(Command::Withdraw(failure));
        }
        let command = inbox.commands.pop_front();
        if command.is_none() && !inbox.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inbox.waker = Some(waker.clone());
        }
        command
    }

    /// Records how the peer's side ended. The first verdict is kept.
    pub(crate) fn record_end(&self, end: Failure) {
        lock(&self.end).get_or_insert(end);
    }

    /// Returns the state of the connection.
    pub(crate) fn status(&self) -> Status {
        let end = lock(&self.end).clone();
        Status { open: end.is_none(), end }
    }

    fn close_inbox(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.ended = true;
        inbox.commands.clear();
        inbox.waker = None;
    }
}

fn unknown_token() -> Failure {
    Failure::new(ErrorCode::Invalid, "no such connection of yours: it has ended, or the token is wrong")
}

#[derive(Default)]
struct Table {
    live: HashMap<[u8; 16], Arc<Connection>>,
    ended: Ends,
}

/// The verdicts of ended connections, those of each owner in the order in which they were recorded.
#[derive(Default)]
struct Ends {
    verdicts: HashMap<[u8; 16], (Owner, Status)>,
    order: HashMap<Owner, VecDeque<[u8; 16]>>,
}

impl Ends {
    fn remember(&mut self, token: [u8; 16], owner: &Owner, status: Status) {
        self.verdicts.insert(token, (owner.clone(), status));
        let own = self.order.entry(owner.clone()).or_default();
        own.push_back(token);
        if own.len() > REMEMBERED_ENDS_PER_OWNER {
            self.forget_oldest_of(owner);
        }
        if self.verdicts.len() > REMEMBERED_ENDS
            && let Some((largest, _)) = self.order.iter().max_by_key(|(_, own)| own.len())
        {
            let largest = largest.clone();
            self.forget_oldest_of(&largest);
        }
    }

    fn forget_oldest_of(&mut self, owner: &Owner) {
        let Some(own) = self.order.get_mut(owner) else { return };
        if let Some(oldest) = own.pop_front() {
            self.verdicts.remove(&oldest);
        }
        if own.is_empty() {
            self.order.remove(owner);
        }
    }
}

/// All connections of a front.
#[derive(Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
}

impl Connections {
    /// Creates an unguessable token and adds the connection.
    ///
    /// # Errors
    /// Returns an error if the kernel returns no random bytes.
    pub(crate) fn enter(
        &self,
        owner: Owner,
        server: bool,
        slot: QuotaGuard,
    ) -> Result<Arc<Connection>, Failure> {
        let mut token = [0; 16];
        openssl::rand::rand_bytes(&mut token)
            .map_err(|_| Failure::new(ErrorCode::Internal, "no random bytes for a token"))?;
        let connection = Arc::new(Connection::new(Token::new(token), owner, server, slot));
        lock(&self.table).live.insert(token, Arc::clone(&connection));
        Ok(connection)
    }

    /// Removes an ended connection. Its verdict is kept for some time. A connection that is already removed is
    /// unchanged.
    pub(crate) fn leave(&self, connection: &Connection) {
        connection.close_inbox();
        connection.record_end(Failure::new(ErrorCode::Cut, "the connection was given up here"));
        let token = *connection.token;
        let mut table = lock(&self.table);
        if table.live.remove(&token).is_none() {
            return;
        }
        table.ended.remember(token, &connection.owner, connection.status());
    }

    /// Returns all live connections.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        lock(&self.table).live.values().cloned().collect()
    }

    /// Returns the live connection with this token, to its owner only.
    ///
    /// # Errors
    /// Returns the same error for an unknown token and for a token of another owner.
    pub(crate) fn find(&self, token: &Token, owner: &Owner) -> Result<Arc<Connection>, Failure> {
        match lock(&self.table).live.get(&**token) {
            Some(connection) if connection.owner == *owner => Ok(Arc::clone(connection)),
            _ => Err(unknown_token()),
        }
    }

    /// Returns the state of a live or recently ended connection.
    ///
    /// # Errors
    /// The same as [`Connections::find`].
    pub(crate) fn status(&self, token: &Token, owner: &Owner) -> Result<Status, Failure> {
        let table = lock(&self.table);
        match (table.live.get(&**token), table.ended.verdicts.get(&**token)) {
            (Some(connection), _) if connection.owner == *owner => Ok(connection.status()),
            (_, Some((of, status))) if of == owner => Ok(status.clone()),
            _ => Err(unknown_token()),
        }
    }
}

/// Adds the addresses of a connection's socket.
pub(crate) fn with_addresses(mut info: Info, fd: Option<BorrowedFd<'_>>) -> Info {
    let Some(fd) = fd else { return info };
    info.peer = rustix::net::getpeername(fd).ok().flatten().as_ref().map(address_text).unwrap_or_default();
    info.local = rustix::net::getsockname(fd).ok().as_ref().map(address_text).unwrap_or_default();
    info
}

/// Returns `address:port`, with brackets around an IPv6 address. An IPv4 address in an IPv6 address is shown as IPv4.
pub(crate) fn address_text(address: &rustix::net::SocketAddrAny) -> String {
    match std::net::SocketAddr::try_from(address.clone()) {
        Ok(address) => std::net::SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u32) -> Owner {
        Owner { socket: "control".into(), uid }
    }

    fn token(number: usize) -> [u8; 16] {
        (number as u128).to_be_bytes()
    }

    fn remember(ends: &mut Ends, uid: u32, numbers: std::ops::Range<usize>) {
        for number in numbers {
            ends.remember(token(number), &owner(uid), Status { open: false, end: None });
        }
    }

    fn remembered(ends: &Ends, numbers: std::ops::Range<usize>) -> usize {
        numbers.filter(|number| ends.verdicts.contains_key(&token(*number))).count()
    }

    #[test]
    fn finding_20_one_owner_does_not_push_out_anothers_verdicts() {
        let mut ends = Ends::default();
        remember(&mut ends, 1, 0..1);
        remember(&mut ends, 2, 10_000..10_000 + 2 * REMEMBERED_ENDS);
        assert_eq!(remembered(&ends, 0..1), 1);
        assert_eq!(ends.verdicts.len(), 1 + REMEMBERED_ENDS_PER_OWNER);
        // Positive control: its own verdicts are dropped, the oldest first.
        let last = 10_000 + 2 * REMEMBERED_ENDS;
        assert_eq!(remembered(&ends, last - REMEMBERED_ENDS_PER_OWNER..last), REMEMBERED_ENDS_PER_OWNER);
    }

    #[test]
    fn finding_20_beyond_the_bound_in_all_the_owner_with_the_most_gives_way() {
        let mut ends = Ends::default();
        remember(&mut ends, 0, 0..10);
        for uid in 1..=5 {
            let first = uid as usize * 10_000;
            remember(&mut ends, uid, first..first + REMEMBERED_ENDS_PER_OWNER);
        }
        assert_eq!(ends.verdicts.len(), REMEMBERED_ENDS);
        assert_eq!(remembered(&ends, 0..10), 10);
        assert!(ends.order.values().all(|own| own.len() <= REMEMBERED_ENDS_PER_OWNER));
    }
}
