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
    /// What was told last.
    told: Mutex<[u64; 3]>,
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

    /// Writes what was counted into the audit log, where it is news.
    pub(super) fn tell(&self) {
        let counted = [&self.handshakes_done, &self.handshakes_failed, &self.refused];
        let counted = counted.map(|counter| counter.load(Ordering::Relaxed));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != counted {
            *told = counted;
            tracing::info!(target: TARGET, "{}", line(counted));
        }
    }
}

fn line([done, failed, refused]: [u64; 3]) -> Line {
    let line = Line::new("front", "count").word("handshakes", done).word("handshakes-failed", failed);
    line.word("refused", refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_counts_names_each() {
        let text = "audit by=front event=count handshakes=3 handshakes-failed=2 refused=1";
        assert_eq!(line([3, 2, 1]).to_string(), text);
    }
}
