//! The dealing of a listener's finished connections to the subscribers that ask for them, round robin.

use crate::{
    authorization::quota::QuotaGuard,
    handshake::Established,
    runtime::{
        connection::Connection,
        sockets::{self, ClientSocket},
    },
};
use luassl_keeper_ipc::transport;
use luassl_protocol::{
    Delivery, ErrorCode, Failure, HandshakeResult, Info, MAX_RESULT, Token, holder, to_body,
};
use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown, shutdown},
};
use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

/// Asks that one subscriber may have outstanding; more are ignored.
const MAX_ASKS: usize = 64;

/// Failed handshakes that wait for a subscriber that asks for reports; older ones are dropped.
const MAX_REPORTS: usize = 64;

/// A finished connection that waits for a subscriber.
pub(crate) struct Finished {
    pub(crate) connection: Arc<Connection>,
    pub(crate) established: Established,
    /// Its part of the bound on connections that nobody has taken.
    pub(crate) _slot: QuotaGuard,
}

/// One process that takes connections from the listener.
struct Subscriber {
    delivery: Arc<ClientSocket>,
    /// Each ask; true where failed handshakes count too.
    asks: VecDeque<bool>,
    /// Delivered, with the front's end of the stream, and not yet confirmed.
    unconfirmed: VecDeque<(Finished, ClientSocket)>,
    /// Its socket has no room; what it says next shows that it reads again.
    full: bool,
}

impl Subscriber {
    /// Whether it waits for a connection, or for a report.
    fn waits(&self, for_report: bool) -> bool {
        !self.full && self.asks.iter().any(|reports| !for_report || *reports)
    }

    /// Takes back the oldest ask that a connection, or a report, has answered.
    fn forget_ask(&mut self, report: bool) {
        if let Some(at) = self.asks.iter().position(|reports| !report || *reports) {
            self.asks.remove(at);
        }
    }
}

/// Why a message could not be given to a subscriber.
enum Undelivered {
    /// The subscriber has gone, and its end will be seen.
    Gone,
    /// The subscriber does not read.
    Full,
    /// The front lacks something; later it may not.
    Exhausted(Failure),
}

impl From<Errno> for Undelivered {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Gone,
            Errno::WOULDBLOCK => Self::Full,
            error => Self::Exhausted(Failure::new(
                ErrorCode::Limit,
                format!("cannot deliver a connection: {error}"),
            )),
        }
    }
}

/// Holders, and what waits for them.
#[derive(Default)]
pub(crate) struct Dispatcher {
    subscribers: BTreeMap<u64, Subscriber>,
    next_holder: u64,
    /// The subscriber that was served last; the next one after it is the first to be looked at.
    last_served: u64,
    ready: VecDeque<Finished>,
    reports: VecDeque<Failure>,
    closed: bool,
    stalled: bool,
}

impl Dispatcher {
    /// Enters a subscriber, whose delivery socket's front end is given; `None` when the listener has ended.
    pub(crate) fn add_subscriber(&mut self, delivery: Arc<ClientSocket>) -> Option<u64> {
        if self.closed {
            return None;
        }
        self.next_holder += 1;
        let subscriber =
            Subscriber { delivery, asks: VecDeque::new(), unconfirmed: VecDeque::new(), full: false };
        self.subscribers.insert(self.next_holder, subscriber);
        Some(self.next_holder)
    }

    /// What a subscriber said; returns the connections that it has taken, with the front's ends of their streams.
    pub(crate) fn heard(&mut self, id: u64, said: &[u8]) -> Vec<(Finished, ClientSocket)> {
        let Some(from) = self.subscribers.get_mut(&id) else { return Vec::new() };
        let mut taken = Vec::new();
        from.full = false;
        for byte in said {
            match *byte {
                holder::ASK | holder::ASK_REPORT if from.asks.len() < MAX_ASKS => {
                    from.asks.push_back(*byte == holder::ASK_REPORT);
                }
                holder::TAKEN => taken.extend(from.unconfirmed.pop_front()),
                _ => {}
            }
        }
        self.deal();
        taken
    }

    /// A subscriber has gone: what it had not taken goes to others. Where it was the last, the listener ends, and what
    /// nobody will have is returned.
    pub(crate) fn remove_subscriber(&mut self, id: u64) -> Option<Vec<Finished>> {
        if let Some(gone) = self.subscribers.remove(&id) {
            for (finished, _) in gone.unconfirmed.into_iter().rev() {
                self.ready.push_front(finished);
            }
        }
        if self.subscribers.is_empty() {
            self.closed = true;
            return Some(self.ready.drain(..).collect());
        }
        self.deal();
        None
    }

    /// The listener has failed for good: subscribers read to the end of their sockets. Returns what nobody will have.
    pub(crate) fn fail(&mut self) -> Vec<Finished> {
        self.closed = true;
        for subscriber in self.subscribers.values_mut() {
            subscriber.asks.clear();
            // Fails only where the subscriber has gone already.
            let _ = shutdown(&*subscriber.delivery, Shutdown::Both);
        }
        self.ready.drain(..).collect()
    }

    /// Returns what nobody has taken and no grant allows any more. What is on its way to a subscriber stays in its place, and
    /// its pump will tell of the end; its peer is cut off here.
    pub(crate) fn drop_withdrawn(&mut self) -> Vec<Finished> {
        let (withdrawn, ready): (Vec<_>, Vec<_>) =
            self.ready.drain(..).partition(|finished| finished.connection.is_withdrawn());
        self.ready = ready.into();
        for (finished, _) in self.subscribers.values().flat_map(|subscriber| &subscriber.unconfirmed) {
            if let Some(tcp) =
                finished.established.tls.get_ref().fd().filter(|_| finished.connection.is_withdrawn())
            {
                // Fails only where the peer has gone already.
                let _ = shutdown(tcp, Shutdown::Both);
            }
        }
        withdrawn
    }

    /// A handshake has ended well; given back where the listener has ended, or no grant allows it any more.
    pub(crate) fn finished(&mut self, finished: Finished) -> Option<Finished> {
        if self.closed || finished.connection.is_withdrawn() {
            return Some(finished);
        }
        self.ready.push_back(finished);
        self.deal();
        None
    }

    /// A handshake has failed: kept for a subscriber that asks for reports, now or later.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.reports.push_back(failure);
        if self.reports.len() > MAX_REPORTS {
            self.reports.pop_front();
        }
        self.deal();
    }

    /// Whether the listener has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether dealing stopped for lack of something that the front may have again later: deal again then.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Deals what is there to those that have asked.
    pub(crate) fn deal(&mut self) {
        self.stalled = false;
        self.deal_reports();
        self.deal_connections();
    }

    fn deal_reports(&mut self) {
        while let Some(message) = self.reports.front().map(report_body)
            && let Some(id) = self.next_asker(true)
        {
            let Some(to) = self.subscribers.get_mut(&id) else { return };
            let sent = send(&to.delivery, &message, None);
            if sent.is_ok() {
                self.reports.pop_front();
            }
            self.settle(id, true, sent);
            if self.stalled {
                return;
            }
        }
    }

    fn deal_connections(&mut self) {
        while !self.ready.is_empty()
            && let Some(id) = self.next_asker(false)
        {
            let (Some(finished), Some(to)) = (self.ready.pop_front(), self.subscribers.get_mut(&id)) else {
                return;
            };
            match deliver(&to.delivery, &finished) {
                Ok(stream) => {
                    to.unconfirmed.push_back((finished, stream));
                    self.settle(id, false, Ok(()));
                }
                Err(undelivered) => {
                    self.ready.push_front(finished);
                    self.settle(id, false, Err(undelivered));
                }
            }
            if self.stalled {
                return;
            }
        }
    }

    /// The next subscriber, round robin after the one that was served last, that waits for this kind of news.
    fn next_asker(&self, report: bool) -> Option<u64> {
        let after =
            self.subscribers.range(self.last_served + 1..).find(|(_, subscriber)| subscriber.waits(report));
        after
            .or_else(|| self.subscribers.iter().find(|(_, subscriber)| subscriber.waits(report)))
            .map(|(id, _)| *id)
    }

    /// Draws the conclusions from an attempt to give something to a subscriber.
    fn settle(&mut self, id: u64, report: bool, sent: Result<(), Undelivered>) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        match sent {
            Ok(()) => {
                subscriber.forget_ask(report);
                self.last_served = id;
            }
            Err(Undelivered::Gone) => subscriber.asks.clear(),
            Err(Undelivered::Full) => subscriber.full = true,
            Err(Undelivered::Exhausted(failure)) => {
                tracing::warn!("{failure}; another attempt follows");
                self.stalled = true;
            }
        }
    }
}

/// Sends a finished connection; returns the front's end of its stream.
fn deliver(to: &ClientSocket, finished: &Finished) -> Result<ClientSocket, Undelivered> {
    let (ours, theirs) = sockets::stream_pair().map_err(Undelivered::Exhausted)?;
    let info = Some(finished.established.info.clone());
    let result = HandshakeResult { error: None, info };
    let message = body(Delivery { token: finished.connection.token, result });
    send(to, &message, Some(theirs.as_fd()))?;
    Ok(ours.with_account(finished.connection.account()))
}

fn send(to: &ClientSocket, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Undelivered> {
    transport::send(to, message, descriptor.as_slice(), SendFlags::DONTWAIT)?;
    Ok(())
}

fn report_body(failure: &Failure) -> Vec<u8> {
    let result = HandshakeResult { error: Some(failure.clone()), info: None };
    body(Delivery { token: Token::new([0; 16]), result })
}

/// A message within the bound; an empty one would be taken for the end of the socket.
fn body(delivery: Delivery) -> Vec<u8> {
    let within = |delivery: &Delivery| to_body(delivery).ok().filter(|body| body.len() <= MAX_RESULT);
    within(&delivery).unwrap_or_else(|| {
        let HandshakeResult { error, info } = delivery.result;
        let error = error.map(|error| Failure::new(error.code, "the reason is too long to be told"));
        let result = HandshakeResult { error, info: info.map(|_| Info::default()) };
        within(&Delivery { token: delivery.token, result }).unwrap_or_default()
    })
}
