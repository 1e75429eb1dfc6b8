//! What is counted: how handshakes ended, and what the grants refused.

use super::audit::TARGET;
use luassl_keeper_ipc::audit::Line;
use luassl_protocol::{ErrorCode, Failure};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often the log says what was counted, where something was.
pub(super) const EVERY: Duration = Duration::from_secs(300);

/// Counters of a front.
#[derive(Default)]
pub(super) struct Counters {
    handshakes_done: AtomicU64,
    handshakes_failed: AtomicU64,
    refused: AtomicU64,
    dropped_early: AtomicU64,
    dropped_by_source: AtomicU64,
    hellos_late: AtomicU64,
    /// What was told last.
    told: Mutex<[u64; 6]>,
}

impl Counters {
    /// A handshake has ended well.
    pub(super) fn handshake_done(&self) {
        self.handshakes_done.fetch_add(1, Ordering::Relaxed);
    }

    /// A handshake has failed: the peer's fault is a debug line, a keeper that is gone is the operator's business.
    pub(super) fn handshake_failed(&self, failure: &Failure) {
        let total = self.handshakes_failed.fetch_add(1, Ordering::Relaxed) + 1;
        if matches!(failure.code, ErrorCode::Unavailable | ErrorCode::Internal) {
            tracing::warn!(total, "handshake failed: {failure}");
        } else {
            tracing::debug!(total, "handshake failed: {failure}");
        }
    }

    /// The grants, or a floor of theirs, have refused somebody something.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was reset at once, since its listener has many handshakes under way.
    pub(super) fn dropped_early(&self) {
        self.dropped_early.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was reset at once, since its source has many handshakes under way.
    pub(super) fn dropped_by_source(&self) {
        self.dropped_by_source.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was closed, since its ClientHello had not come in time.
    pub(super) fn hello_late(&self) {
        self.hellos_late.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes what was counted into the audit log, where it is news.
    pub(super) fn tell(&self) {
        let (done, failed) = (&self.handshakes_done, &self.handshakes_failed);
        let (early, by_source, late) = (&self.dropped_early, &self.dropped_by_source, &self.hellos_late);
        let counted = [done, failed, &self.refused, early, by_source, late];
        let counted = counted.map(|counter| counter.load(Ordering::Relaxed));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != counted {
            *told = counted;
            tracing::info!(target: TARGET, "{}", line(counted));
        }
    }
}

fn line([done, failed, refused, early, by_source, late]: [u64; 6]) -> Line {
    let line = Line::new("front", "count").word("handshakes", done).word("handshakes-failed", failed);
    let line = line.word("refused", refused).word("dropped-early", early);
    line.word("dropped-by-source", by_source).word("hellos-late", late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_counts_names_each() {
        let text = "audit by=front event=count handshakes=3 handshakes-failed=2 refused=1 dropped-early=4 \
                    dropped-by-source=5 hellos-late=6";
        assert_eq!(line([3, 2, 1, 4, 5, 6]).to_string(), text);
    }
}
