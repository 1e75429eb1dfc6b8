//! Lines on standard error. A front can cause only so many.

use luassl_keeper_ipc::audit::{Line, Throttle};
use std::fmt::{self, Display};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How a line begins: as the front's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// With the time and the level.
    Text,
    /// With the priority that the journal takes off (sd-daemon(3)).
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

/// Chooses how lines begin, once; until then they have the time.
pub(crate) fn start(format: Format) {
    // A second choice is none.
    let _ = FORMAT.set(format);
}

/// Writes one line about what is as it should be, or is the front's doing; a standard error that is closed must not end
/// the keeper.
pub(crate) fn line(text: impl Display) {
    write(("INFO", 6), text);
}

/// Writes one line about what the operator should look at.
pub(crate) fn warning(text: impl Display) {
    write(("WARN", 4), text);
}

fn write((level, priority): (&str, u8), text: impl Display) {
    let mut out = std::io::stderr().lock();
    let _ = match FORMAT.get() {
        Some(Format::Journal) => writeln!(out, "<{priority}>luassl-keeper: {text}"),
        _ => writeln!(out, "{} {level:>5} luassl-keeper: {text}", Utc(SystemTime::now())),
    };
}

/// A time as RFC 3339 has it, in UTC to the microsecond.
struct Utc(SystemTime);

impl Display for Utc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = since.subsec_micros();
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Year, month and day of a number of days since 1970: years that begin in March have their odd day at the end.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, of_era) = (days / ERA, days % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
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
    fn a_time_is_written_as_everybody_reads_it() {
        let at = |seconds| Utc(UNIX_EPOCH + std::time::Duration::from_secs(seconds)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00.000000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn outside_text_stays_on_its_line() {
        assert_eq!(quoted("a\nb\u{1b}"), "\"a\\nb\\u{1b}\"");
        assert!(quoted(&"x".repeat(1000)).len() < 70);
    }
}
