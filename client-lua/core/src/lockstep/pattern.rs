//! The pattern of a receive, as in LuaSocket: a line, all data, or a number of bytes.

use crate::lockstep::outcome::Blocked;

/// The pattern of a receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// `*l`: up to a line feed. The line feed and all carriage returns are removed.
    Line,
    /// `*a`: up to the end of the connection.
    All,
    /// The given number of bytes.
    Count(usize),
}

/// The result of a receive.
#[derive(Debug)]
pub struct Received {
    /// The received data: all requested data, or the part before the receive was blocked.
    pub data: Vec<u8>,
    /// The reason why the data is not complete.
    pub blocked: Option<Blocked>,
}

/// A pattern being matched.
pub(super) struct Matching {
    pattern: Pattern,
    data: Vec<u8>,
    /// The size of the part of `data` that was received, and not passed as a prefix.
    total: usize,
}

impl Matching {
    /// Starts matching. `prefix` is the data that an earlier call received.
    pub(super) fn new(pattern: Pattern, prefix: &[u8]) -> Self {
        let pattern = match pattern {
            Pattern::Count(count) => Pattern::Count(count.saturating_sub(prefix.len())),
            other => other,
        };
        Self { pattern, data: prefix.to_vec(), total: 0 }
    }

    /// Consumes the part of `bytes` that the pattern needs. Returns its size, and whether the pattern is
    /// complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let (taken, done) = match self.pattern {
            Pattern::All => (bytes.len(), false),
            Pattern::Count(count) => {
                let taken = bytes.len().min(count - self.total);
                (taken, self.total + taken == count)
            }
            Pattern::Line => return self.take_line(bytes),
        };
        self.data.extend_from_slice(&bytes[..taken]);
        self.total += taken;
        (taken, done)
    }

    fn take_line(&mut self, bytes: &[u8]) -> (usize, bool) {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if line.contains(&b'\r') {
            self.data.extend(line.iter().filter(|byte| **byte != b'\r'));
        } else {
            self.data.extend_from_slice(line);
        }
        self.total += line.len();
        (end.map_or(bytes.len(), |end| end + 1), end.is_some())
    }

    /// Finishes the receive. For [`Pattern::All`], the end of the connection is success if any data was
    /// received.
    pub(super) fn finish(self, blocked: Option<Blocked>) -> Received {
        let ended = self.pattern == Pattern::All && self.total > 0;
        let blocked = blocked.filter(|blocked| !(ended && *blocked == Blocked::Closed));
        Received { data: self.data, blocked }
    }
}

#[cfg(test)]
mod tests {
    use crate::lockstep::Blocked;
    use crate::lockstep::pattern::{Matching, Pattern};

    #[test]
    fn a_line_loses_every_carriage_return_and_its_end() {
        let mut line = Matching::new(Pattern::Line, b"a");
        assert_eq!(line.take(b"b\rc"), (3, false));
        assert_eq!(line.take(b"d\r\nnext"), (3, true));
        assert_eq!(line.finish(None).data, b"abcd");
    }

    #[test]
    fn a_prefix_counts_for_a_number_of_bytes() {
        let mut count = Matching::new(Pattern::Count(4), b"ab");
        assert_eq!(count.take(b"cde"), (2, true));
        assert_eq!(count.finish(None).data, b"abcd");
    }

    #[test]
    fn everything_ends_well_at_the_end_where_there_is_anything() {
        let mut all = Matching::new(Pattern::All, b"before");
        assert_eq!(all.take(b"x"), (1, false));
        assert!(all.finish(Some(Blocked::Closed)).blocked.is_none());
        let nothing = Matching::new(Pattern::All, b"before");
        assert_eq!(nothing.finish(Some(Blocked::Closed)).blocked, Some(Blocked::Closed));
    }
}
