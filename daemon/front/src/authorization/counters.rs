//! Counts for each owner: how handshakes ended and why, and what was refused and why.
//!
//! The size of the table is limited, independently of the callers. Names come from the kernel (uid) and the
//! configuration (control socket), and the owners beyond [`MAX_OWNERS`] share one row.

use crate::authorization::owner::Owner;
use luassl_keeper_ipc::audit::Line;
use luassl_protocol::{ErrorCode, Failure, FailureReason};
use luassl_settings::{AUDIT, Open, OwnerStatus};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

/// The interval at which the counts are logged, if there are new ones.
pub(crate) const EVERY: Duration = Duration::from_secs(300);

/// The number of owners with their own rows. If there are more owners, the least active ones are added up in the row
/// for the others.
pub(crate) const MAX_OWNERS: usize = 1024;
/// The number of rows that are added up at a time. The search for the least active rows is thus not repeated for each
/// new owner.
const FOLDED_AT_ONCE: usize = MAX_OWNERS / 4;

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Timeout,
    /// The peer ended the connection.
    Cut,
    /// The peer sent an alert.
    Alert,
    /// The two sides have no version, cipher, group, algorithm or protocol in common.
    NothingInCommon,
    /// Any other fault in the peer's messages.
    Protocol,
    /// The peer's certificate did not verify.
    Verification,
    /// No grant allows the operation, or the keeper refused to sign.
    Refused,
    Limit,
    /// The keeper does not answer.
    Keeper,
    Internal,
}

impl Reason {
    fn of(failure: &Failure) -> Self {
        match failure.code {
            ErrorCode::Timeout => Self::Timeout,
            ErrorCode::Cut | ErrorCode::Closed => Self::Cut,
            ErrorCode::Tls => match failure.reason {
                Some(FailureReason::Alert) => Self::Alert,
                Some(FailureReason::NothingInCommon) => Self::NothingInCommon,
                _ => Self::Protocol,
            },
            ErrorCode::Verification => Self::Verification,
            ErrorCode::Refused => Self::Refused,
            ErrorCode::Limit => Self::Limit,
            ErrorCode::Unavailable => Self::Keeper,
            _ => Self::Internal,
        }
    }

    /// Returns the word for this reason in the audit log and in `luasslctl status`.
    fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::Alert => "alert",
            Self::NothingInCommon => "nothing-in-common",
            Self::Protocol => "protocol",
            Self::Verification => "verification",
            Self::Refused => "refused",
            Self::Limit => "limit",
            Self::Keeper => "keeper",
            Self::Internal => "internal",
        }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// No grant allows the operation. Contains the word of the denial.
    Denied(&'static str),
    /// The operation is below a floor of the grant.
    Floor,
    /// A limit is reached. Contains its key in `[limits]`.
    Limit(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(word) => out.write_str(word),
            Self::Floor => out.write_str("floor"),
            Self::Limit(key) => write!(out, "limit-{}", key.replace('_', "-")),
        }
    }
}

/// The counts of one owner, or the sum of several owners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Row {
    done: u64,
    failed: BTreeMap<Reason, u64>,
    refused: BTreeMap<Refusal, u64>,
    dropped: Dropped,
    /// The number of events that have been logged.
    told: u64,
}

impl Row {
    fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Returns the number of counted events.
    fn events(&self) -> u64 {
        self.done + self.failures() + self.refusals() + self.dropped.events()
    }

    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.told += other.told;
        self.dropped.add(other.dropped);
        other.failed.iter().for_each(|(reason, count)| *self.failed.entry(*reason).or_default() += count);
        other.refused.iter().for_each(|(refusal, count)| *self.refused.entry(*refusal).or_default() += count);
    }

    /// Appends the counts to a line of the log.
    fn line(&self, line: Line) -> Line {
        let line = line.word("handshakes", self.done).word("handshakes-failed", self.failures());
        let line = line.word("refused", self.refusals());
        let line = self.failed.iter().fold(line, |line, (reason, count)| {
            line.word(&format!("handshakes-failed-{}", reason.word()), count)
        });
        let refused = self.refused.iter();
        let line =
            refused.fold(line, |line, (refusal, count)| line.word(&format!("refused-{refusal}"), count));
        self.dropped.words().fold(line, |line, (word, count)| line.word(word, count))
    }

    fn status(&self, owner: Option<&Owner>, open: Open) -> OwnerStatus {
        let failed = self.failed.iter().map(|(reason, count)| (reason.word().to_owned(), *count));
        let refused = self.refused.iter().map(|(refusal, count)| (refusal.to_string(), *count));
        let dropped = self.dropped.words().map(|(word, count)| (word.to_owned(), count));
        OwnerStatus {
            socket: owner.map(|owner| owner.socket.to_string()).unwrap_or_default(),
            uid: owner.map(|owner| owner.uid),
            open,
            done: self.done,
            failed: failed.collect(),
            refused: refused.chain(dropped).collect(),
        }
    }
}

/// The connections that an owner's listeners closed before a handshake began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Dropped {
    early: u64,
    by_source: u64,
    late: u64,
}

impl Dropped {
    /// Returns the counts, with their words in the audit log and in `luasslctl status`.
    fn words(self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [
            ("dropped-early", self.early),
            ("dropped-by-source", self.by_source),
            ("hellos-late", self.late),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0)
    }

    fn events(self) -> u64 {
        self.early + self.by_source + self.late
    }

    fn add(&mut self, other: Self) {
        self.early += other.early;
        self.by_source += other.by_source;
        self.late += other.late;
    }
}

#[derive(Debug, Default)]
struct Table {
    owners: HashMap<Owner, Row>,
    /// The owners that have no row, or no longer have one.
    others: Row,
    /// The number of events of all owners that have been logged.
    told: u64,
}

impl Table {
    fn row(&mut self, owner: &Owner) -> &mut Row {
        if !self.owners.contains_key(owner) && self.owners.len() >= MAX_OWNERS {
            self.fold();
        }
        self.owners.entry(owner.clone()).or_default()
    }

    /// Adds the least active rows up in the row for the others.
    fn fold(&mut self) {
        let mut events: Vec<_> =
            self.owners.iter().map(|(owner, row)| (row.events(), owner.clone())).collect();
        events.sort_unstable();
        for (_, owner) in events.into_iter().take(FOLDED_AT_ONCE) {
            if let Some(row) = self.owners.remove(&owner) {
                self.others.add(&row);
            }
        }
    }

    fn total(&self) -> Row {
        let mut total = self.others.clone();
        self.owners.values().for_each(|row| total.add(row));
        total
    }

    /// Returns the log lines with new counts: one for all owners together, then one for each owner.
    fn news(&mut self) -> Vec<Line> {
        let total = self.total();
        let events = total.events();
        if std::mem::replace(&mut self.told, events) == events {
            return Vec::new();
        }
        let count = || Line::new("front", "count");
        let mut lines = vec![total.line(count())];
        let mut owners: Vec<_> = self.owners.iter_mut().collect();
        owners.sort_by_key(|(one, _)| *one);
        for (owner, row) in owners {
            let events = row.events();
            if std::mem::replace(&mut row.told, events) != events {
                lines.push(row.line(count().word("uid", owner.uid).text("socket", &owner.socket)));
            }
        }
        let events = self.others.events();
        if std::mem::replace(&mut self.others.told, events) != events {
            lines.push(self.others.line(count().word("owners", "others")));
        }
        lines
    }
}

/// The counters of a front.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    table: Mutex<Table>,
}

impl Counters {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Counts a handshake that has succeeded.
    pub(crate) fn handshake_done(&self, owner: &Owner) {
        self.table().row(owner).done += 1;
    }

    /// Counts and logs a handshake that has failed. A fault of the peer is logged at debug level. The absence of the
    /// keeper is logged for the operator.
    pub(crate) fn handshake_failed(&self, owner: &Owner, failure: &Failure) {
        *self.table().row(owner).failed.entry(Reason::of(failure)).or_default() += 1;
        if matches!(failure.code, ErrorCode::Unavailable | ErrorCode::Internal) {
            tracing::warn!("handshake failed: {failure}");
        } else {
            tracing::debug!("handshake failed: {failure}");
        }
    }

    /// Counts a request that a grant, a floor of a grant or a limit has refused.
    pub(crate) fn refused(&self, owner: &Owner, refusal: Refusal) {
        *self.table().row(owner).refused.entry(refusal).or_default() += 1;
    }

    /// Counts a connection that was reset at once because its listener has many handshakes in progress.
    pub(crate) fn dropped_early(&self, owner: &Owner) {
        self.table().row(owner).dropped.early += 1;
    }

    /// Counts a connection that was reset at once because its source has many handshakes in progress.
    pub(crate) fn dropped_by_source(&self, owner: &Owner) {
        self.table().row(owner).dropped.by_source += 1;
    }

    /// Counts a connection that was closed because its ClientHello did not arrive in time.
    pub(crate) fn hello_late(&self, owner: &Owner) {
        self.table().row(owner).dropped.late += 1;
    }

    /// Writes the new counts to the audit log.
    pub(crate) fn tell(&self) {
        let news = self.table().news();
        news.iter().for_each(|line| tracing::info!(target: AUDIT, "{line}"));
    }

    /// Returns a row for each owner, in their order, then one for the others. `open` contains what each owner has open.
    pub(crate) fn status(&self, mut open: BTreeMap<Owner, Open>) -> Vec<OwnerStatus> {
        let table = self.table();
        let mut owners: Vec<_> = table.owners.iter().collect();
        owners.sort_by_key(|(one, _)| *one);
        let mut rows: Vec<_> = owners
            .into_iter()
            .map(|(owner, row)| row.status(Some(owner), open.remove(owner).unwrap_or_default()))
            .collect();
        // Nothing has been counted for these owners yet.
        while rows.len() < MAX_OWNERS
            && let Some((owner, open)) = open.pop_first()
        {
            rows.push(Row::default().status(Some(&owner), open));
        }
        let others = open.into_values().reduce(|sum, open| sum + open).unwrap_or_default();
        if table.others != Row::default() || others != Open::default() {
            rows.push(table.others.status(None, others));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u32) -> Owner {
        Owner { socket: "control".into(), uid }
    }

    fn failure(code: ErrorCode, message: &str) -> Failure {
        Failure::new(code, message)
    }

    fn told(counters: &Counters) -> Vec<String> {
        counters.table().news().iter().map(Line::to_string).collect()
    }

    #[test]
    fn the_log_has_all_and_each_owner_with_news() {
        let counters = Counters::default();
        counters.handshake_done(&owner(1));
        counters.handshake_failed(&owner(1), &failure(ErrorCode::Cut, "cut"));
        counters.refused(&owner(2), Refusal::Denied("no-grant"));
        counters.refused(&owner(2), Refusal::Limit("control_connections"));
        let lines = [
            "audit by=front event=count handshakes=1 handshakes-failed=1 refused=2 handshakes-failed-cut=1 \
             refused-no-grant=1 refused-limit-control-connections=1",
            "audit by=front event=count uid=1 socket=\"control\" handshakes=1 handshakes-failed=1 refused=0 \
             handshakes-failed-cut=1",
            "audit by=front event=count uid=2 socket=\"control\" handshakes=0 handshakes-failed=0 refused=2 \
             refused-no-grant=1 refused-limit-control-connections=1",
        ];
        assert_eq!(told(&counters), lines);
        assert_eq!(told(&counters), [""; 0], "no news");
        counters.handshake_done(&owner(2));
        assert_eq!(told(&counters).len(), 2);
        counters.dropped_early(&owner(2));
        counters.hello_late(&owner(1));
        let [all, first, second] = told(&counters).try_into().unwrap();
        assert!(all.ends_with(" dropped-early=1 hellos-late=1"), "{all}");
        assert!(first.contains(" uid=1 ") && first.ends_with(" hellos-late=1"), "{first}");
        assert!(second.contains(" uid=2 ") && second.ends_with(" dropped-early=1"), "{second}");
        let status = counters.status(BTreeMap::new());
        assert_eq!(status[1].refused.get("dropped-early"), Some(&1));
    }

    #[test]
    fn owners_without_end_do_not_grow_the_table() {
        let counters = Counters::default();
        for _ in 0..10 {
            counters.handshake_done(&owner(0));
        }
        let many = 20 * u32::try_from(MAX_OWNERS).unwrap();
        for uid in 1..=many {
            counters.refused(&owner(uid), Refusal::Denied("no-grant"));
        }
        assert!(counters.table().owners.len() <= MAX_OWNERS);
        let status = counters.status(BTreeMap::new());
        assert!(status.len() <= MAX_OWNERS + 1);
        assert_eq!((status[0].uid, status[0].done), (Some(0), 10), "the active keep their rows");
        let refused: u64 = status.iter().flat_map(|row| row.refused.values()).sum();
        assert_eq!(refused, u64::from(many), "nothing is lost");
        assert_eq!(status.last().and_then(|row| row.uid), None);
    }

    #[test]
    fn what_is_open_is_shown_and_bounded_too() {
        let counters = Counters::default();
        let many = u32::try_from(MAX_OWNERS).unwrap() + 5;
        let open = (0..many).map(|uid| (owner(uid), Open { server: 1, ..Open::default() })).collect();
        let status = counters.status(open);
        assert_eq!(status.len(), MAX_OWNERS + 1);
        assert_eq!(status.iter().map(|row| row.open.server).sum::<u64>(), u64::from(many));
    }

    #[test]
    fn each_failure_has_its_reason() {
        use FailureReason as Wire;
        for (code, reason, word) in [
            (ErrorCode::Timeout, None, "timeout"),
            (ErrorCode::Closed, None, "cut"),
            (ErrorCode::Tls, Some(Wire::Alert), "alert"),
            (ErrorCode::Tls, Some(Wire::NothingInCommon), "nothing-in-common"),
            (ErrorCode::Tls, None, "protocol"),
            (ErrorCode::Verification, None, "verification"),
            (ErrorCode::Unavailable, None, "keeper"),
            (ErrorCode::Invalid, None, "internal"),
        ] {
            let failure = Failure { reason, ..failure(code, "") };
            assert_eq!(Reason::of(&failure).word(), word);
        }
    }
}
