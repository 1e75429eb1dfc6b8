//! Lines on standard error. A front can cause only so many.

use crate::limits::{LOG_LINES, LOG_WINDOW};
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
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

/// Lets a bounded number of lines through in each window of time, and says how many it held back.
pub(crate) struct Throttle {
    window: Mutex<Window>,
}

struct Window {
    start: Instant,
    lines: u32,
    held: u64,
}

impl Throttle {
    /// An empty window.
    pub(crate) fn new() -> Self {
        Self { window: Mutex::new(Window { start: Instant::now(), lines: 0, held: 0 }) }
    }

    /// Writes the line, or counts it.
    pub(crate) fn line(&self, text: impl Display) {
        match self.admit(Instant::now()) {
            None => {}
            Some(0) => line(text),
            Some(held) => line(format_args!("{text} ({held} such lines were held back before)")),
        }
    }

    /// Whether a line may be written now, and how many were not since the last one.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.start) >= LOG_WINDOW {
            window.start = now;
            window.lines = 0;
        }
        if window.lines >= LOG_LINES {
            window.held += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.held))
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
    fn a_flood_is_held_back_and_counted() {
        let throttle = Throttle::new();
        let start = Instant::now();
        let admitted = (0..100).filter(|_| throttle.admit(start).is_some()).count();
        assert_eq!(admitted, LOG_LINES as usize);
        assert_eq!(throttle.admit(start + LOG_WINDOW), Some(100 - u64::from(LOG_LINES)));
        assert_eq!(throttle.admit(start + LOG_WINDOW), Some(0));
    }

    #[test]
    fn outside_text_stays_on_its_line() {
        assert_eq!(quoted("a\nb\u{1b}"), "\"a\\nb\\u{1b}\"");
        assert!(quoted(&"x".repeat(1000)).len() < 70);
    }
}
