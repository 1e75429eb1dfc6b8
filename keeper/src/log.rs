//! Lines on standard error. The number of lines that a front can cause is limited.

use humantime::format_rfc3339_micros;
use luassl_keeper_ipc::audit::{Line, Throttle};
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

/// The format of the beginning of a line, which is the same as for the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Begins with the time and the level.
    Text,
    /// Begins with the priority that the journal removes (sd-daemon(3)).
    Journal,
}

impl std::str::FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "journal" => Ok(Self::Journal),
            _ => Err(()),
        }
    }
}

static FORMAT: OnceLock<Format> = OnceLock::new();

/// Sets the format of the beginning of lines. Only the first call has an effect. Until then lines begin with the time.
pub(crate) fn start(format: Format) {
    // A second call has no effect.
    let _ = FORMAT.set(format);
}

/// Writes one line about normal operation or about an action of the front. A closed standard error must not end the
/// keeper.
pub(crate) fn line(text: impl Display) {
    write(("INFO", 6), text);
}

/// Writes one line that needs the operator's attention.
pub(crate) fn warning(text: impl Display) {
    write(("WARN", 4), text);
}

fn write((level, priority): (&str, u8), text: impl Display) {
    let mut out = std::io::stderr().lock();
    let _ = match FORMAT.get() {
        Some(Format::Journal) => writeln!(out, "<{priority}>luassl-keeper: {text}"),
        _ => writeln!(out, "{} {level:>5} luassl-keeper: {text}", format_rfc3339_micros(SystemTime::now())),
    };
}

/// Returns text from outside in a form that is safe for a log: without control characters, and of bounded length.
pub(crate) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(64).collect();
    format!("\"{}\"", cut.escape_debug())
}

/// The audit log of one front. [`Throttle`] limits the lines about refusals.
pub(crate) struct Audit {
    front: String,
    throttle: Mutex<Throttle>,
}

impl Audit {
    /// Returns a log with no suppressed lines.
    pub(crate) fn new(front: &str) -> Self {
        Self { front: front.to_owned(), throttle: Mutex::new(Throttle::new(Instant::now())) }
    }

    /// Returns the beginning of a line.
    pub(crate) fn of(&self, event: &str) -> Line {
        Line::new("keeper", event).text("front", &self.front)
    }

    /// Writes a line that a front can cause at will, or counts it as suppressed.
    pub(crate) fn throttled(&self, make: impl FnOnce() -> Line) {
        let admitted = self.throttle().admit(Instant::now());
        if let Some(held) = admitted {
            self.suppressed(held);
            line(make());
        }
    }

    /// Reports the number of suppressed lines after a flood has ended.
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

/// Logs a failed notification of the service manager.
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
