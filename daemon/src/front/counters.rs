//! What is counted.

use luassl_protocol::{ErrorCode, Failure};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a front.
#[derive(Default)]
pub(super) struct Counters {
    handshakes_failed: AtomicU64,
}

impl Counters {
    /// A handshake has failed: the peer's fault is a debug line, a keeper that is gone is the operator's business.
    pub(super) fn handshake_failed(&self, failure: &Failure) {
        let total = self.handshakes_failed.fetch_add(1, Ordering::Relaxed) + 1;
        if matches!(failure.code, ErrorCode::Unavailable | ErrorCode::Internal) {
            tracing::warn!(total, "handshake failed: {failure}");
        } else {
            tracing::debug!(total, "handshake failed: {failure}");
        }
    }
}
