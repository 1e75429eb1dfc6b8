//! Connections by token: what the control socket can ask of them, and how it reaches the pump that has them.

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

/// Ended connections whose verdict can still be asked for, in all. Beyond it the oldest of the owner with the most goes.
const REMEMBERED_ENDS: usize = 4096;

/// The same of one owner.
const REMEMBERED_ENDS_PER_OWNER: usize = 1024;

/// Requests that may wait for one connection's pump.
const INBOX_LIMIT: usize = 64;

/// A question that is answered where the connection lives.
pub(crate) type Question = Box<dyn FnOnce(&SslRef, Option<BorrowedFd<'_>>) + Send>;

/// What the control socket asks of a pump.
pub(crate) enum Command {
    /// Look at the session or its socket.
    Ask(Question),
    /// Send close_notify after everything that Lua wrote.
    Close(oneshot::Sender<Result<Done, Failure>>),
    /// Renegotiate, update keys or ask for a certificate, whichever fits.
    Renegotiate(oneshot::Sender<Result<Done, Failure>>),
    /// End it at once, without close_notify: no grant allows it any more.
    Withdraw(Failure),
}

#[derive(Default)]
struct Inbox {
    commands: VecDeque<Command>,
    waker: Option<Waker>,
    ended: bool,
    /// Why no grant allows it any more.
    withdrawn: Option<Failure>,
    /// That has been said to whoever has the connection.
    withdrawal_told: bool,
}

/// What a connection rests on.
#[derive(Default)]
struct Basis {
    standing: Option<Arc<Standing>>,
    /// None as long as the handshake lasts.
    negotiated: Option<Negotiated>,
}

/// How far a connection has come, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the end of the handshake, or not taken by anybody.
    Early,
    /// In stream mode.
    Stream,
    /// In lock-step mode.
    LockStep,
}

/// One connection, as the control socket sees it.
pub(crate) struct Connection {
    pub(crate) token: Token,
    pub(crate) owner: Owner,
    /// Whether the server role is played.
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

    /// Notes what it rests on.
    pub(crate) fn rests_on(&self, standing: Arc<Standing>) {
        lock(&self.basis).standing = Some(standing);
    }

    /// Notes what its handshake has come to.
    pub(crate) fn negotiated(&self, negotiated: Negotiated) {
        lock(&self.basis).negotiated = Some(negotiated);
    }

    /// What it rests on, and what its handshake has come to.
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

    /// Ends it: no grant allows it any more.
    pub(crate) fn withdraw(&self, failure: Failure) {
        self.record_end(failure.clone());
        let mut inbox = lock(&self.inbox);
        inbox.withdrawn.get_or_insert(failure);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }

    /// Whether no grant allows it any more.
    pub(crate) fn is_withdrawn(&self) -> bool {
        lock(&self.inbox).withdrawn.is_some()
    }

    /// Waits until no grant allows it any more, where nobody hears its commands yet.
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

    /// Where what its owner sends is closed.
    pub(crate) fn account(&self) -> Account {
        self.slot.account()
    }

    /// Hands a command to the pump.
    ///
    /// # Errors
    /// When the connection has ended, or too much waits for it already.
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

    /// The next command; the waker is kept for the one after.
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

    /// Records how the peer's side ended; the first verdict stays.
    pub(crate) fn record_end(&self, end: Failure) {
        lock(&self.end).get_or_insert(end);
    }

    /// How the connection stands.
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

/// Verdicts of ended connections, each owner's in the order in which they came.
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
    /// Makes the token unguessable and enters the connection.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
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

    /// Takes an ended connection out; its verdict stays for a while. What has left already stays as it is.
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

    /// All that are live.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        lock(&self.table).live.values().cloned().collect()
    }

    /// The live connection of that token, for its owner alone.
    ///
    /// # Errors
    /// The same for an unknown token and for another owner's.
    pub(crate) fn find(&self, token: &Token, owner: &Owner) -> Result<Arc<Connection>, Failure> {
        match lock(&self.table).live.get(&**token) {
            Some(connection) if connection.owner == *owner => Ok(Arc::clone(connection)),
            _ => Err(unknown_token()),
        }
    }

    /// How a live or lately ended connection stands.
    ///
    /// # Errors
    /// As [`Connections::find`].
    pub(crate) fn status(&self, token: &Token, owner: &Owner) -> Result<Status, Failure> {
        let table = lock(&self.table);
        match (table.live.get(&**token), table.ended.verdicts.get(&**token)) {
            (Some(connection), _) if connection.owner == *owner => Ok(connection.status()),
            (_, Some((of, status))) if of == owner => Ok(status.clone()),
            _ => Err(unknown_token()),
        }
    }
}

/// Fills in the addresses of a connection's socket.
pub(crate) fn with_addresses(mut info: Info, fd: Option<BorrowedFd<'_>>) -> Info {
    let Some(fd) = fd else { return info };
    info.peer = rustix::net::getpeername(fd).ok().flatten().as_ref().map(address_text).unwrap_or_default();
    info.local = rustix::net::getsockname(fd).ok().as_ref().map(address_text).unwrap_or_default();
    info
}

/// `address:port`, with brackets around an IPv6 address; IPv4 in IPv6 is shown as IPv4.
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
        // Positive control: its own verdicts go, the oldest first.
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
