//! The text of a configuration file: its lines, and a translation of the TOML reader's errors to messages for
//! operators.

use crate::config::finding::{Finding, Location, nearest};
use crate::config::leave_out::leave_out;
use crate::config::raw;
use rustix::fs::{Mode, OFlags, open};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// The maximum number of syntax errors. The search for further errors ends there.
const MAX_MISTAKES: usize = 64;

/// The maximum size of a configuration, in bytes. A larger file is considered a mistake.
const MAX_FILE: u64 = 1 << 20;

/// Opens a regular file. The file is read again at each reload. A pipe cannot be read again, and opening it
/// may wait forever for its writer.
fn open_regular(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = File::from(open(file, flags, Mode::empty())?);
    if opened.metadata()?.is_file() {
        Ok(opened)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// A configuration file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// Reads `file` completely.
    ///
    /// # Errors
    /// Returns a finding if the file cannot be read, is too large or is not UTF-8.
    pub(crate) fn read(file: &Path) -> Result<Self, Finding> {
        let unreadable = |error: std::io::Error| {
            Finding::error(Location::file(file), format!("the configuration cannot be read: {error}"))
                .hint("name another file with --config FILE")
        };
        let mut text = String::new();
        let length = open_regular(file)
            .and_then(|opened| opened.take(MAX_FILE + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        if length as u64 > MAX_FILE {
            return Err(Finding::error(Location::file(file), format!("larger than {MAX_FILE} bytes")));
        }
        Ok(Self { file: file.to_owned(), text })
    }

    /// Creates a source from a text that was already read. `file` is used in messages.
    pub(crate) fn from_text(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned() }
    }

    /// Returns the directory that relative paths in the file are relative to.
    pub(crate) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Returns the location of a span of bytes: the line of its start.
    pub(crate) fn location(&self, span: Range<usize>) -> Location {
        Location { file: self.file.clone(), line: Some(self.line(span.start)) }
    }

    fn line(&self, offset: usize) -> usize {
        let bytes = self.text.as_bytes();
        bytes[..offset.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Parses the TOML into the raw structs. An invalid entry is reported as a finding and left out.
    pub(crate) fn parse(&self) -> (raw::File, Vec<Finding>) {
        let (mut root, errors) = DeTable::parse_recoverable(&self.text);
        let mut findings: Vec<Finding> = Vec::new();
        for error in &errors {
            let finding = self.explain(error);
            // Further errors in the same line are consequences of the first.
            if findings.iter().all(|other| other.location != finding.location) {
                findings.push(finding);
            }
        }
        for _ in 0..=MAX_MISTAKES {
            match raw::File::deserialize(toml::de::Deserializer::from(root.clone())) {
                Ok(file) => return (file, findings),
                Err(error) => {
                    let finding = self.explain(&error);
                    if findings.iter().all(|other| other.location != finding.location) {
                        findings.push(finding);
                    }
                    if !error.span().is_some_and(|span| leave_out(root.get_mut(), &span)) {
                        break;
                    }
                }
            }
        }
        (raw::File::default(), findings)
    }

    /// Returns the line of the header of the table that contains a finding.
    pub(crate) fn header_line(&self, finding: &Finding) -> Option<usize> {
        let line = finding.location.as_ref()?.line?;
        let lines: Vec<&str> = self.text.lines().take(line).collect();
        lines.iter().rposition(|text| text.trim_start().starts_with('[')).map(|before| before + 1)
    }

    fn explain(&self, error: &toml::de::Error) -> Finding {
        let span = error.span().unwrap_or(0..0);
        let location = self.location(span.clone());
        let message = error.message();
        if let Some(rest) = message.strip_prefix("unknown field ") {
            return self.unknown_key(location, rest, span.start);
        }
        if let Some(rest) = message.strip_prefix("invalid type: ") {
            return wrong_type(location, rest);
        }
        if message == "duplicate key" {
            return Finding::error(location, "duplicate key or table").hint("remove one of the two");
        }
        Finding::error(location, format!("invalid TOML: {}", message.lines().collect::<Vec<_>>().join(", ")))
            .hint("a line is `[table]` or `key = value`, and strings are quoted (https://toml.io)")
    }

    /// Returns the finding for an unknown key. `rest` is serde's "`given`, expected one of `a`, `b`".
    fn unknown_key(&self, location: Location, rest: &str, offset: usize) -> Finding {
        let mut quoted = rest.split('`').skip(1).step_by(2);
        let given = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        let table = self.table(offset).map_or_else(String::new, |table| format!(" in {table}"));
        let hint = nearest(given, known.iter().copied()).map_or_else(
            || format!("valid keys are {}", known.join(", ")),
            |name| format!("did you mean `{name}`?"),
        );
        Finding::error(location, format!("unknown key `{given}`{table}")).hint(hint)
    }

    /// Returns the header of the table around `offset`; `None` at the top of the file and within a header.
    fn table(&self, offset: usize) -> Option<&str> {
        let before = self.text.get(..offset)?;
        let mut lines = before.lines();
        let own = if before.ends_with('\n') { "" } else { lines.next_back()? };
        if own.trim_start().starts_with('[') {
            return None;
        }
        lines.rev().map(str::trim).find(|line| line.starts_with('[') && line.ends_with(']'))
    }
}

/// Returns the finding for a value of the wrong type. `rest` is serde's "string \"x\", expected i64".
fn wrong_type(location: Location, rest: &str) -> Finding {
    let (found, expected) = rest.rsplit_once(", expected ").unwrap_or((rest, "something else"));
    if found.starts_with("integer `") && found.ends_with("128") {
        return Finding::error(location, "this number is too large").hint("write a smaller one");
    }
    let wanted = match expected {
        "i64" => "an integer",
        "f64" => "a number",
        "a string" => "a quoted string",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other if other == "a map" || other.starts_with("struct ") => "a table",
        other => other,
    };
    Finding::error(location, format!("expected {wanted}, found {}", found.replace('`', "")))
        .hint(format!("write {wanted} here"))
}
