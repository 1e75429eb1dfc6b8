//! Lines of the audit log, one format for keeper and front (`docs/audit.md`): the word `audit`, then fields `key=value`
//! behind one space each, one for each fact. A value is a bare word of `a`-`z`, `0`-`9` and `-`, or a text in double quotes
//! in which `"` and `\` stand behind a `\`, and control characters are `\n`, `\r`, `\t` or `\u{HEX}`.

use std::fmt::{self, Display, Write};
use std::time::{Duration, Instant};

/// The longest text of one field, in characters: what comes from outside is cut there.
pub const TEXT_MAX: usize = 255;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// A line of process `by` (`keeper`, `front`) about `event`.
    #[must_use]
    pub fn new(by: &str, event: &str) -> Self {
        Self("audit".to_owned()).word("by", by).word("event", event)
    }

    /// A field with a bare word, or a number.
    #[must_use]
    pub fn word(mut self, key: &str, value: impl Display) -> Self {
        // A String takes whatever is written.
        let _ = write!(self.0, " {key}={value}");
        self
    }

    /// A field with a text, whatever is in it.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        let cut: String = value.chars().take(TEXT_MAX).collect();
        let _ = write!(self.0, " {key}=\"");
        // As escape_debug, but letters of all scripts stay as they are, so that a reader needs one rule only.
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

    /// A field that is only there where its fact is known.
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

/// Lines that one party may cause within [`WINDOW`]; what is beyond them is counted.
pub const LINES: u32 = 10;

/// See [`LINES`].
pub const WINDOW: Duration = Duration::from_secs(10);

/// Lets a bounded number of lines through in each window of time, and counts those that it held back.
#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    start: Instant,
    lines: u32,
    held: u64,
}

impl Throttle {
    /// An empty window, from `now` on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { start: now, lines: 0, held: 0 }
    }

    /// Whether a line may be written now, and how many were not since the last one.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        self.renew(now);
        if self.lines >= LINES {
            self.held += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.held))
    }

    /// How many lines were held back and nobody was told of, once their window has ended.
    pub fn ended(&mut self, now: Instant) -> Option<u64> {
        self.renew(now);
        (self.lines < LINES && self.held > 0).then(|| std::mem::take(&mut self.held))
    }

    /// Whether there is nothing to remember.
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
