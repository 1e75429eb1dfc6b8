//! Findings: problems with a configuration or with its files. A finding has a location, a cause and a remedy.

use luassl_settings::OneLine;
use std::fmt;
use std::path::PathBuf;

/// A position in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file's path as it was given.
    pub file: PathBuf,
    /// The line number, from 1; `None` for the file as a whole.
    pub line: Option<usize>,
}

impl Location {
    /// Returns the location of a file as a whole.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: path.into(), line: None }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", OneLine(&self.file.to_string_lossy()))?;
        self.line.map_or(Ok(()), |line| write!(out, ":{line}"))
    }
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration works, but perhaps not as intended.
    Warning,
    /// The configuration, or a part of it, does not work.
    Error,
}

/// One message for the operator. It is printed on one line, or on two lines with its hint. File names and the
/// text that a front sends cannot change that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The severity.
    pub severity: Severity,
    /// The position in a file, if there is one.
    pub location: Option<Location>,
    /// The problem and its cause.
    pub cause: String,
    /// The remedy.
    pub hint: Option<String>,
}

impl Finding {
    /// Creates an error at `location`.
    pub fn error(location: impl Into<Option<Location>>, cause: impl Into<String>) -> Self {
        Self { severity: Severity::Error, location: location.into(), cause: cause.into(), hint: None }
    }

    /// Creates a warning at `location`.
    pub fn warning(location: impl Into<Option<Location>>, cause: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(location, cause) }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "error: ",
        })?;
        if let Some(location) = &self.location {
            write!(out, "{location}: ")?;
        }
        write!(out, "{}", OneLine(&self.cause))?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(out, "\nhint: {}", OneLine(hint)))
    }
}

/// Returns the name among `known` that `given` most likely stands for.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this similarity a suggestion is more confusing than helpful.
    const ALIKE: f64 = 0.7;
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(given, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_place_cause_and_hint() {
        let location = Location { file: "luassl.toml".into(), line: Some(12) };
        let finding = Finding::error(location, "unknown key `kee`").hint("did you mean `key`?");
        assert_eq!(
            finding.to_string(),
            "error: luassl.toml:12: unknown key `kee`\nhint: did you mean `key`?"
        );
    }

    #[test]
    fn nothing_that_others_name_or_say_reaches_the_terminal() {
        let location = Location { file: "keys/\x1b[2J.pem".into(), line: None };
        let finding = Finding::error(location, "front `a`: x\nerror: forged").hint("\u{202e}");
        assert_eq!(
            finding.to_string(),
            "error: keys/\\u{1b}[2J.pem: front `a`: x\\nerror: forged\nhint: \\u{202e}"
        );
    }

    #[test]
    fn a_warning_may_stand_alone() {
        assert_eq!(Finding::warning(None, "odd").to_string(), "warning: odd");
    }

    #[test]
    fn nothing_alike_gives_no_suggestion() {
        assert_eq!(nearest("kee", ["certificate", "key"]), Some("key"));
        assert_eq!(nearest("zzz", ["certificate", "key"]), None);
    }
}
