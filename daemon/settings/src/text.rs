//! Untrusted text on a terminal and in a log.

use std::fmt::{self, Write as _};

/// A text whose unprintable characters are escaped. The text cannot end its line, control a terminal, or
/// change the display order of the text around it.
#[derive(Debug, Clone, Copy)]
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| {
            if is_plain(letter) { out.write_char(letter) } else { write!(out, "{}", letter.escape_default()) }
        })
    }
}

/// Returns whether a character is printed without escape. Control characters, line separators (U+2028,
/// U+2029) and characters that change the direction of the following text (Unicode Standard Annex 9, table 3,
/// and the marks) are escaped.
#[must_use]
pub fn is_plain(letter: char) -> bool {
    let directs = matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !letter.is_control() && !directs && !matches!(letter, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_line_but_its_end() {
        assert_eq!(OneLine("a\nb\u{1b}[31mü").to_string(), "a\\nb\\u{1b}[31mü");
        assert_eq!(OneLine("a\u{202e}b\u{2028}").to_string(), "a\\u{202e}b\\u{2028}");
        // Positive control.
        assert_eq!(OneLine("größe: 5 µs, \"x\" 'y'").to_string(), "größe: 5 µs, \"x\" 'y'");
    }
}
