//! Decides which subscriber receives which finished connection and which report of a failed handshake.
//!
//! [`Dealing`] is a state machine without I/O. The caller reports each event, performs each [`Step`] that the machine
//! returns, and reports how the step ended. The types of connections, streams and reports do not matter here.

use luassl_protocol::holder;
use std::collections::{BTreeMap, VecDeque};

/// The number of outstanding asks of one subscriber. Further asks are ignored.
const MAX_ASKS: usize = 64;

/// The number of failed handshakes that wait for a subscriber that asks for reports. Older ones are dropped.
const MAX_REPORTS: usize = 64;

/// The kind of a delivery that an ask permits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connection,
    Report,
}

/// The next action of the caller. After it the caller calls the method that the variant names.
#[derive(Debug)]
pub(super) enum Step<'a, C, R> {
    /// Send this connection to a subscriber, then call [`Dealing::delivered`].
    Deliver { to: u64, connection: &'a C },
    /// Send this report to a subscriber, then call [`Dealing::reported`].
    Report { to: u64, report: &'a R },
}

/// Why a message could not be delivered to a subscriber.
#[derive(Debug, Clone, Copy)]
pub(super) enum Undelivered {
    /// The subscriber's socket is broken; [`Dealing::subscriber_gone`] follows.
    Gone,
    /// The subscriber's socket has no room.
    Full,
    /// The front lacks descriptors or memory; a later attempt may succeed.
    Exhausted,
}

/// What remains after the listener has failed.
pub(super) struct Failed<C> {
    /// The subscribers whose sockets the caller shuts down.
    pub(super) close: Vec<u64>,
    /// The connections that no subscriber will receive.
    pub(super) undelivered: Vec<C>,
}

/// The progress of the current round of deliveries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reports,
    Connections,
    /// The next event, or [`Dealing::resume`], starts another round.
    Over,
}

/// One process that takes connections from the listener.
struct Subscriber<C, S> {
    /// The kind of each outstanding ask, oldest first; an ask for a report is also an ask for a connection.
    asks: VecDeque<Kind>,
    /// Delivered connections with the front's ends of their streams, until the subscriber confirms them.
    unconfirmed: VecDeque<(C, S)>,
    /// Whether its socket has no room. Its next message shows that it reads again.
    full: bool,
    /// The number of deliveries of the listener that preceded the last delivery to it; 0 before the first.
    served: u64,
}

impl<C, S> Subscriber<C, S> {
    fn new() -> Self {
        Self { asks: VecDeque::new(), unconfirmed: VecDeque::new(), full: false, served: 0 }
    }

    fn waits_for(&self, kind: Kind) -> bool {
        !self.full && self.ask_for(kind).is_some()
    }

    /// Returns the position of the oldest ask that a delivery of this kind answers.
    fn ask_for(&self, kind: Kind) -> Option<usize> {
        self.asks.iter().position(|ask| kind == Kind::Connection || *ask == kind)
    }

    fn forget_ask(&mut self, kind: Kind) {
        if let Some(at) = self.ask_for(kind) {
            self.asks.remove(at);
        }
    }

    /// Applies a message, which has one command per byte. Returns the connections that it confirms.
    fn on_message(&mut self, message: &[u8]) -> Vec<(C, S)> {
        let mut taken = Vec::new();
        self.full = false;
        for byte in message {
            match *byte {
                holder::ASK if self.asks.len() < MAX_ASKS => self.asks.push_back(Kind::Connection),
                holder::ASK_REPORT if self.asks.len() < MAX_ASKS => self.asks.push_back(Kind::Report),
                holder::TAKEN => taken.extend(self.unconfirmed.pop_front()),
                _ => {}
            }
        }
        taken
    }
}

/// The subscribers of a listener, and the connections `C` and reports `R` that wait for them. `S` is the front's end of
/// a delivered connection's stream.
pub(super) struct Dealing<C, S, R> {
    subscribers: BTreeMap<u64, Subscriber<C, S>>,
    /// The id of the newest subscriber.
    newest: u64,
    /// The number of deliveries that have succeeded.
    served: u64,
    ready: VecDeque<C>,
    reports: VecDeque<R>,
    stage: Stage,
    closed: bool,
    stalled: bool,
}

impl<C, S, R> Default for Dealing<C, S, R> {
    fn default() -> Self {
        Self {
            subscribers: BTreeMap::new(),
            newest: 0,
            served: 0,
            ready: VecDeque::new(),
            reports: VecDeque::new(),
            stage: Stage::Over,
            closed: false,
            stalled: false,
        }
    }
}

impl<C, S, R> Dealing<C, S, R> {
    /// Adds a subscriber and returns its id; `None` if the listener has ended.
    pub(super) fn add_subscriber(&mut self) -> Option<u64> {
        if self.closed {
            return None;
        }
        self.newest += 1;
        self.subscribers.insert(self.newest, Subscriber::new());
        Some(self.newest)
    }

    /// Applies a message from a subscriber. Returns the connections that it confirms, which the caller then pumps.
    pub(super) fn on_message(&mut self, from: u64, message: &[u8]) -> Vec<(C, S)> {
        let Some(subscriber) = self.subscribers.get_mut(&from) else { return Vec::new() };
        let taken = subscriber.on_message(message);
        self.resume();
        taken
    }

    /// Removes a subscriber that has gone. Its unconfirmed connections wait for other subscribers again, before all
    /// connections that already wait. If it was the last subscriber, the listener ends, and the connections that no
    /// subscriber will receive are returned.
    pub(super) fn subscriber_gone(&mut self, id: u64) -> Option<Vec<C>> {
        if let Some(gone) = self.subscribers.remove(&id) {
            for (connection, _) in gone.unconfirmed.into_iter().rev() {
                self.ready.push_front(connection);
            }
        }
        if self.subscribers.is_empty() {
            self.closed = true;
            return Some(self.ready.drain(..).collect());
        }
        self.resume();
        None
    }

    /// Adds a connection whose handshake has succeeded. Returns the connection if the listener has ended.
    pub(super) fn connection_finished(&mut self, connection: C) -> Option<C> {
        if self.closed {
            return Some(connection);
        }
        self.ready.push_back(connection);
        self.resume();
        None
    }

    /// Adds the report of a failed handshake. It waits for a subscriber that asks for reports, now or later.
    pub(super) fn handshake_failed(&mut self, report: R) {
        self.reports.push_back(report);
        if self.reports.len() > MAX_REPORTS {
            self.reports.pop_front();
        }
        self.resume();
    }

    /// Ends the listener, which accepts no more connections. Nothing is delivered from now on.
    pub(super) fn fail(&mut self) -> Failed<C> {
        self.closed = true;
        self.subscribers.values_mut().for_each(|subscriber| subscriber.asks.clear());
        let close = self.subscribers.keys().copied().collect();
        Failed { close, undelivered: self.ready.drain(..).collect() }
    }

    /// Removes and returns the waiting connections that are withdrawn. A connection that is on its way to a subscriber
    /// keeps its place, so that confirmations still match.
    pub(super) fn drop_withdrawn(&mut self, is_withdrawn: impl FnMut(&C) -> bool) -> Vec<C> {
        let (withdrawn, ready) = self.ready.drain(..).partition(is_withdrawn);
        self.ready = Vec::into(ready);
        withdrawn
    }

    /// Returns the connections that are delivered and not confirmed.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = &C> {
        self.subscribers
            .values()
            .flat_map(|subscriber| &subscriber.unconfirmed)
            .map(|(connection, _)| connection)
    }

    /// Returns whether the listener has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns whether the last round stopped because the front lacked descriptors or memory. If so, call
    /// [`Self::resume`] later.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Starts a round of deliveries. Each event also starts one.
    pub(super) fn resume(&mut self) {
        self.stalled = false;
        self.stage = Stage::Reports;
    }

    /// Returns the next delivery; `None` until the next event. Reports precede connections.
    pub(super) fn next_step(&self) -> Option<Step<'_, C, R>> {
        if self.closed {
            return None;
        }
        self.next_report().or_else(|| self.next_connection())
    }

    fn next_report(&self) -> Option<Step<'_, C, R>> {
        let report = self.reports.front().filter(|_| self.stage == Stage::Reports)?;
        Some(Step::Report { to: self.next_asker(Kind::Report)?, report })
    }

    fn next_connection(&self) -> Option<Step<'_, C, R>> {
        let connection = self.ready.front().filter(|_| self.stage != Stage::Over)?;
        Some(Step::Deliver { to: self.next_asker(Kind::Connection)?, connection })
    }

    /// Returns the subscriber that asks for this kind of delivery and whose last delivery, of any kind, is the oldest.
    fn next_asker(&self, kind: Kind) -> Option<u64> {
        let waiting = self.subscribers.iter().filter(|(_, subscriber)| subscriber.waits_for(kind));
        waiting.min_by_key(|(_, subscriber)| subscriber.served).map(|(id, _)| *id)
    }

    /// Records the outcome of [`Step::Deliver`], with the front's end of the connection's stream.
    pub(super) fn delivered(&mut self, to: u64, sent: Result<S, Undelivered>) {
        let sent = sent.map(|stream| {
            if let Some(subscriber) = self.subscribers.get_mut(&to)
                && let Some(connection) = self.ready.pop_front()
            {
                subscriber.unconfirmed.push_back((connection, stream));
            }
        });
        self.settle(to, Kind::Connection, sent);
    }

    /// Records the outcome of [`Step::Report`].
    pub(super) fn reported(&mut self, to: u64, sent: Result<(), Undelivered>) {
        if sent.is_ok() {
            self.reports.pop_front();
        }
        self.settle(to, Kind::Report, sent);
    }

    /// Updates the subscriber and the stage after a step. After a stall of a report one connection is still permitted.
    fn settle(&mut self, to: u64, kind: Kind, sent: Result<(), Undelivered>) {
        let Some(subscriber) = self.subscribers.get_mut(&to) else { return };
        match sent {
            Ok(()) => {
                subscriber.forget_ask(kind);
                self.served += 1;
                subscriber.served = self.served;
            }
            Err(Undelivered::Gone) => subscriber.asks.clear(),
            Err(Undelivered::Full) => subscriber.full = true,
            Err(Undelivered::Exhausted) => self.stalled = true,
        }
        if self.stalled {
            self.stage = if kind == Kind::Report { Stage::Connections } else { Stage::Over };
        }
    }
}
