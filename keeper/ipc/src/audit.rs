//! Lines of the audit log, in one format for keeper and front (`docs/audit.md`). A line is the word `audit`, then
//! fields `key=value`, each after one space, one for each fact. A value is a bare word of `a`-`z`, `0`-`9` and `-`, or
//! a text in double quotes. In a text, `"` and `\` follow a `\`, and control characters are `\n`, `\r`, `\t` or
//! `\u{HEX}`.

use std::fmt::{self, Display, Write};
use std::time::{Duration, Instant};

/// The length of the longest text of one field, in characters. Text from outside is cut to this length.
pub const TEXT_MAX: usize = 255;

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// Returns a line of the process `by` (`keeper`, `front`) about `event`.
    #[must_use]
    pub fn new(by: &str, event: &str) -> Self {
        Self("audit".to_owned()).word("by", by).word("event", event)
    }

    /// Adds a field with a bare word, or a number.
    #[must_use]
    pub fn word(mut self, key: &str, value: impl Display) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {key}={value}");
        self
    }

    /// Adds a field with any text.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        let cut: String = value.chars().take(TEXT_MAX).collect();
        let _ = write!(self.0, " {key}=\"");
        // As escape_debug, but letters of all scripts are not escaped, so that a reader needs only one rule.
        for letter in cut.chars() {
            let _ = match letter {
                '"' | '\\' => write!(self.0, "\\{letter}"),
                '\n' => self.0.write_str("\\n"),
                '\r' => self.0.write_str("\\r"),
                '\t' => self.0.write_str("\\t"),
                letter if letter.is_control() => write!(self.0, "\\u{{{:x}}}", u32::from(letter)),
                letter => self.0.write_char(letter),
            };
        }
        self.0.push('"');
        self
    }

    /// Adds a field if its value is known.
    #[must_use]
    pub fn known(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.word(key, value),
            None => self,
        }
    }
}

impl Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The number of lines that one party may cause within [`WINDOW`]. Further lines are counted.
pub const LINES: u32 = 10;

/// The window of time for [`LINES`].
pub const WINDOW: Duration = Duration::from_secs(10);

/// Admits a bounded number of lines in each window of time, and counts the suppressed lines.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    start: Instant,
    lines: u32,
    held: u64,
}

impl Throttle {
    /// Returns an empty window that starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { start: now, lines: 0, held: 0 }
    }

    /// Returns the number of lines suppressed since the last admitted line, or `None` if a line may not be written now.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        self.renew(now);
        if self.lines >= LINES {
            self.held += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.held))
    }

    /// Returns the number of suppressed lines that were not yet reported, after their window has ended.
    pub fn ended(&mut self, now: Instant) -> Option<u64> {
        self.renew(now);
        (self.lines < LINES && self.held > 0).then(|| std::mem::take(&mut self.held))
    }

    /// Returns whether there is no state to keep.
    #[must_use]
    pub fn is_idle(&self, now: Instant) -> bool {
        self.held == 0 && now.saturating_duration_since(self.start) >= WINDOW
    }

    fn renew(&mut self, now: Instant) {
        if now.saturating_duration_since(self.start) >= WINDOW {
            self.start = now;
            self.lines = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let admitted = (0..100).filter(|_| throttle.admit(start).is_some()).count();
        assert_eq!(admitted, LINES as usize);
        assert_eq!(throttle.ended(start), None, "the window is still open");
        assert_eq!(throttle.admit(start + WINDOW), Some(100 - u64::from(LINES)));
        assert_eq!(throttle.admit(start + WINDOW), Some(0));
    }

    #[test]
    fn what_was_held_back_is_told_though_nothing_follows() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let held = (0..=LINES).filter(|_| throttle.admit(start).is_none()).count();
        assert_eq!(throttle.ended(start + WINDOW), Some(held as u64));
        assert_eq!(throttle.ended(start + WINDOW), None);
        assert!(throttle.is_idle(start + 2 * WINDOW));
    }

    #[test]
    fn no_text_ends_its_line_or_its_field() {
        let line = Line::new("front", "refused").text("identity", "a\" by=\"x\\\n\u{1b}[0m\u{85}ü");
        let line = line.word("uid", 7).known("pid", None::<u32>);
        let text = "audit by=front event=refused identity=\"a\\\" by=\\\"x\\\\\\n\\u{1b}[0m\\u{85}ü\" uid=7";
        assert_eq!(line.to_string(), text);
        assert!(Line::new("a", "b").text("c", &"x".repeat(9999)).to_string().len() < 300);
    }
}
