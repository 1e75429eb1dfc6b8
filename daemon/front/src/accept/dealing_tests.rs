//! Tests the state machine that deals connections with random sequences of events, against a model of plain lists.

use super::dealing::{Dealing, Step, Undelivered};
use proptest::{collection::vec, prelude::*, test_runner::RngAlgorithm};
use std::collections::{BTreeMap, BTreeSet};

/// The limits in PROTOCOL.md on outstanding requests and on kept failures.
const BOUND: usize = 64;

/// A connection. It can be neither copied nor created again, so the machine cannot deliver it twice.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Conn(usize);

/// The front's end of one delivery's stream.
#[derive(Debug, PartialEq, Eq)]
struct Stream(usize);

#[derive(Debug, PartialEq, Eq)]
struct Report(usize);

/// An event for the machine. A subscriber is identified by its place among the present subscribers. The place after the
/// last one stands for a subscriber that has gone.
#[derive(Debug, Clone)]
enum Event {
    Join,
    Message(usize, Vec<u8>),
    Leave(usize),
    Finish(usize),
    FailHandshakes(usize),
    /// Withdraws each existing connection whose number is divisible by this.
    Withdraw(usize),
    Resume,
    FailListener,
}

fn event() -> impl Strategy<Value = Event> {
    let who = || 0_usize..12;
    let words = || prop::sample::select(b"aaaarrtttx".to_vec());
    prop_oneof![
        60 => Just(Event::Join),
        350 => (who(), vec(words(), 1..6)).prop_map(|(who, said)| Event::Message(who, said)),
        20 => (who(), words(), 50_usize..100).prop_map(|(who, word, count)| Event::Message(who, vec![word; count])),
        40 => who().prop_map(Event::Leave),
        300 => (1_usize..4).prop_map(Event::Finish),
        10 => (50_usize..100).prop_map(Event::Finish),
        100 => (1_usize..4).prop_map(Event::FailHandshakes),
        10 => (50_usize..100).prop_map(Event::FailHandshakes),
        20 => (2_usize..6).prop_map(Event::Withdraw),
        50 => Just(Event::Resume),
        1 => Just(Event::FailListener),
    ]
}

/// Generates the outcomes of deliveries, one after the other.
fn outcomes() -> impl Strategy<Value = Vec<Result<(), Undelivered>>> {
    let outcome = prop_oneof![
        20 => Just(Ok(())),
        2 => Just(Err(Undelivered::Full)),
        1 => Just(Err(Undelivered::Gone)),
        1 => Just(Err(Undelivered::Exhausted)),
    ];
    vec(outcome, 1..40)
}

/// The expected state of the machine, in flat lists. `true` stands for a report.
#[derive(Default)]
struct Model {
    present: Vec<u64>,
    full: BTreeSet<u64>,
    /// Every outstanding ask, oldest first.
    asks: Vec<(u64, bool)>,
    waiting: Vec<usize>,
    reports: Vec<usize>,
    /// Every unconfirmed connection with the number of its stream, oldest first.
    unconfirmed: Vec<(u64, usize, usize)>,
    closed: bool,
    stalled: bool,
    /// The number of times that the second was served while the first could have been served, since the first was
    /// served or could not be.
    passed_over: BTreeMap<(u64, u64), usize>,
}

impl Model {
    fn ask_for(&self, id: u64, report: bool) -> Option<usize> {
        self.asks.iter().position(|(from, is_report)| *from == id && (*is_report || !report))
    }

    fn waits(&self, id: u64, report: bool) -> bool {
        self.present.contains(&id) && !self.full.contains(&id) && self.ask_for(id, report).is_some()
    }

    fn anybody_waits(&self, report: bool) -> bool {
        self.present.iter().any(|id| self.waits(*id, report))
    }

    /// Applies a message. Returns the connections that it confirms.
    fn message(&mut self, from: u64, said: &[u8]) -> Vec<(Conn, Stream)> {
        if !self.present.contains(&from) {
            return Vec::new();
        }
        self.stalled = false;
        self.full.remove(&from);
        for word in said.iter().filter(|word| b"ar".contains(word)) {
            if self.asks.iter().filter(|(id, _)| *id == from).count() < BOUND {
                self.asks.push((from, *word == b'r'));
            }
        }
        let mut confirmations = said.iter().filter(|word| **word == b't').count();
        let taken = self.unconfirmed.extract_if(.., |(id, ..)| {
            let is_taken = *id == from && confirmations > 0;
            confirmations -= usize::from(is_taken);
            is_taken
        });
        taken.map(|(_, conn, stream)| (Conn(conn), Stream(stream))).collect()
    }

    /// Removes a subscriber. Returns the returned connections if it was the last subscriber.
    fn leave(&mut self, id: u64) -> Option<Vec<Conn>> {
        self.present.retain(|other| *other != id);
        self.asks.retain(|(from, _)| *from != id);
        let lost: Vec<_> = self.unconfirmed.extract_if(.., |(to, ..)| *to == id).collect();
        self.waiting.splice(0..0, lost.into_iter().map(|(_, conn, _)| conn));
        if self.present.is_empty() {
            self.closed = true;
            return Some(self.waiting.drain(..).map(Conn).collect());
        }
        self.stalled = false;
        None
    }

    /// Records which subscriber is served, and checks that no subscriber is passed over twice for the same other
    /// subscriber.
    ///
    /// Reports and connections share one turn. A subscriber that cannot take a delivery misses its turn, and its count
    /// starts again.
    fn serve(&mut self, served: u64, report: bool) {
        for id in self.present.iter().copied().filter(|id| *id != served) {
            if self.waits(id, report) {
                let times = self.passed_over.entry((id, served)).or_default();
                *times += 1;
                assert!(*times < 2, "{served} is served twice, and {id}, which waits as well, is not");
            }
        }
        self.passed_over.retain(|(waiting, _), _| *waiting != served);
        let ask = self.ask_for(served, report).expect("a subscriber that waits");
        self.asks.remove(ask);
    }

    fn not_served(&mut self, id: u64, why: Undelivered) {
        match why {
            Undelivered::Gone => self.asks.retain(|(from, _)| *from != id),
            Undelivered::Full => _ = self.full.insert(id),
            Undelivered::Exhausted => self.stalled = true,
        }
    }
}

/// The machine beside its model.
struct Run {
    dealing: Dealing<Conn, Stream, Report>,
    model: Model,
    outcomes: std::iter::Cycle<std::vec::IntoIter<Result<(), Undelivered>>>,
    conns: usize,
    reports: usize,
    streams: usize,
    /// The connections that have been taken or returned.
    ended: Vec<Conn>,
}

impl Run {
    fn new(outcomes: Vec<Result<(), Undelivered>>) -> Self {
        let mut run = Self {
            dealing: Dealing::default(),
            model: Model::default(),
            outcomes: outcomes.into_iter().cycle(),
            conns: 0,
            reports: 0,
            streams: 0,
            ended: Vec::new(),
        };
        run.join();
        run
    }

    /// Returns the subscriber at a place, or an id that no subscriber has had.
    fn subscriber(&self, place: usize) -> u64 {
        let present = &self.model.present;
        present.get(place % (present.len() + 1)).copied().unwrap_or(u64::MAX)
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Join => self.join(),
            Event::Message(place, said) => self.message(self.subscriber(place), &said),
            Event::Leave(place) => self.leave(self.subscriber(place)),
            Event::Finish(count) => (0..count).for_each(|_| self.finish()),
            Event::FailHandshakes(count) => (0..count).for_each(|_| self.fail_handshake()),
            Event::Withdraw(divisor) => self.withdraw(divisor),
            Event::Resume => {
                self.dealing.resume();
                self.model.stalled = false;
            }
            Event::FailListener => self.fail(),
        }
        self.deal();
        self.compare_unconfirmed();
    }

    fn join(&mut self) {
        let id = self.dealing.add_subscriber();
        assert_eq!(id.is_none(), self.model.closed);
        if let Some(id) = id {
            assert!(!self.model.present.contains(&id));
            self.model.present.push(id);
        }
    }

    fn message(&mut self, from: u64, said: &[u8]) {
        let taken = self.dealing.on_message(from, said);
        assert_eq!(taken, self.model.message(from, said), "the oldest deliveries, with their own streams");
        self.ended.extend(taken.into_iter().map(|(conn, _)| conn));
    }

    fn leave(&mut self, id: u64) {
        let given_back = self.dealing.subscriber_gone(id);
        assert_eq!(given_back, self.model.leave(id));
        self.ended.extend(given_back.into_iter().flatten());
    }

    fn finish(&mut self) {
        let refused = self.dealing.connection_finished(Conn(self.conns));
        assert_eq!(refused.is_some(), self.model.closed);
        if refused.is_none() {
            self.model.waiting.push(self.conns);
            self.model.stalled = false;
        }
        self.ended.extend(refused);
        self.conns += 1;
        self.deal();
    }

    fn fail_handshake(&mut self) {
        self.dealing.handshake_failed(Report(self.reports));
        self.model.reports.push(self.reports);
        let excess = self.model.reports.len().saturating_sub(BOUND);
        self.model.reports.drain(..excess);
        self.model.stalled = false;
        self.reports += 1;
        self.deal();
    }

    fn withdraw(&mut self, divisor: usize) {
        let withdrawn = self.dealing.drop_withdrawn(|conn| conn.0.is_multiple_of(divisor));
        let expected = self.model.waiting.extract_if(.., |conn| conn.is_multiple_of(divisor));
        assert_eq!(withdrawn, expected.map(Conn).collect::<Vec<_>>());
        self.ended.extend(withdrawn);
    }

    fn fail(&mut self) {
        let failed = self.dealing.fail();
        assert_eq!(failed.close, self.model.present);
        assert_eq!(failed.undelivered, self.model.waiting.drain(..).map(Conn).collect::<Vec<_>>());
        self.ended.extend(failed.undelivered);
        self.model.asks.clear();
        self.model.closed = true;
    }

    /// Performs each step that the machine requests, and compares the remaining state.
    fn deal(&mut self) {
        while self.dealing.next_step().is_some() {
            assert!(!self.model.closed, "nothing is dealt once the listener has ended");
            let was_stalled = self.model.stalled;
            let was_report = self.step();
            assert!(!was_stalled || !was_report, "reports that stall are not tried again at once");
            if was_stalled {
                assert!(self.dealing.next_step().is_none(), "a stall ends the round");
            }
        }
        let Model { waiting, reports, closed, stalled, .. } = &self.model;
        assert_eq!((self.dealing.is_closed(), self.dealing.is_stalled()), (*closed, *stalled));
        if !closed && !stalled {
            assert!(
                waiting.is_empty() || !self.model.anybody_waits(false),
                "somebody waits for a connection"
            );
            assert!(reports.is_empty() || !self.model.anybody_waits(true), "somebody waits for a report");
        }
    }

    fn compare_unconfirmed(&self) {
        let mut unconfirmed: Vec<_> = self.dealing.unconfirmed().map(|conn| conn.0).collect();
        unconfirmed.sort_unstable();
        let mut expected: Vec<_> = self.model.unconfirmed.iter().map(|(_, conn, _)| *conn).collect();
        expected.sort_unstable();
        assert_eq!(unconfirmed, expected);
    }

    /// Performs one step. Returns whether it was a report.
    fn step(&mut self) -> bool {
        let outcome = self.outcomes.next().expect("at least one outcome, again and again");
        let model = &mut self.model;
        let (to, report) = match self.dealing.next_step().expect("a step") {
            Step::Report { to, report } => {
                assert_eq!(report.0, model.reports[0], "the oldest of those that are kept");
                (to, true)
            }
            Step::Deliver { to, connection } => {
                assert_eq!(connection.0, model.waiting[0], "the first of those that wait");
                (to, false)
            }
        };
        assert!(model.waits(to, report), "{to} has gone, has no room or has not asked");
        match outcome {
            Ok(()) => model.serve(to, report),
            Err(why) => model.not_served(to, why),
        }
        if report {
            model.reports.drain(..usize::from(outcome.is_ok()));
            self.dealing.reported(to, outcome);
        } else {
            self.streams += 1;
            let conn = outcome.map(|()| model.waiting.remove(0));
            model.unconfirmed.extend(conn.map(|conn| (to, conn, self.streams)));
            self.dealing.delivered(to, outcome.map(|()| Stream(self.streams)));
        }
        report
    }

    /// Removes all subscribers. Each connection has been taken or returned exactly once.
    fn end(mut self) {
        while let Some(id) = self.model.present.first().copied() {
            self.leave(id);
            self.deal();
        }
        self.ended.sort_unstable();
        assert_eq!(self.ended, (0..self.conns).map(Conn).collect::<Vec<_>>());
    }
}

proptest! {
    // The default generator, ChaCha, takes most of the time of a debug build.
    #![proptest_config(ProptestConfig { cases: 1_000, rng_algorithm: RngAlgorithm::XorShift, ..Default::default() })]

    #[test]
    fn connections_are_dealt_in_order_and_in_turn_and_none_is_lost(
        events in vec(event(), 1..200),
        outcomes in outcomes(),
    ) {
        let mut run = Run::new(outcomes);
        events.into_iter().for_each(|event| run.apply(event));
        run.end();
    }
}
