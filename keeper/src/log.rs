//! Lines on standard error. A front can cause only so many.

use luassl_keeper_ipc::audit::{Line, Throttle};
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Writes one line; a standard error that is closed must not end the keeper.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "luassl-keeper: {text}");
}

/// Text from outside, made safe for a log: no control characters, bounded.
pub(crate) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(64).collect();
    format!("\"{}\"", cut.escape_debug())
}

/// The audit log of one front, whose refusals are written as far as [`Throttle`] lets them.
pub(crate) struct Audit {
    front: String,
    throttle: Mutex<Throttle>,
}

impl Audit {
    /// One that has held nothing back.
    pub(crate) fn new(front: &str) -> Self {
        Self { front: front.to_owned(), throttle: Mutex::new(Throttle::new(Instant::now())) }
    }

    /// The beginning of a line.
    pub(crate) fn of(&self, event: &str) -> Line {
        Line::new("keeper", event).text("front", &self.front)
    }

    /// Writes a line that a front can cause at will, or counts it.
    pub(crate) fn throttled(&self, make: impl FnOnce() -> Line) {
        let admitted = self.throttle().admit(Instant::now());
        if let Some(held) = admitted {
            self.suppressed(held);
            line(make());
        }
    }

    /// Says how many lines were held back, where a flood has ended.
    pub(crate) fn catch_up(&self) {
        let held = self.throttle().ended(Instant::now());
        self.suppressed(held.unwrap_or(0));
    }

    fn suppressed(&self, held: u64) {
        if held > 0 {
            line(self.of("suppressed").word("lines", held));
        }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks whether the service manager could be told.
pub(crate) fn told(outcome: Option<std::io::Result<()>>) {
    if let Some(Err(error)) = outcome {
        line(format_args!("NOTIFY_SOCKET cannot be written to: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_stays_on_its_line() {
        assert_eq!(quoted("a\nb\u{1b}"), "\"a\\nb\\u{1b}\"");
        assert!(quoted(&"x".repeat(1000)).len() < 70);
    }
}
