//! What a process of the daemon logs.

use std::str::FromStr;

/// The target of the audit log's lines, which no level switches off.
pub const AUDIT: &str = "luassl::audit";

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged.
    pub level: tracing::Level,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: tracing::Level::INFO, format: LogFormat::Text }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// With the time, for a terminal or a file.
    Text,
    /// With sd-daemon(3)'s priority and without the time, which the journal has itself.
    Journal,
}

impl LogFormat {
    /// Its name in the configuration and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Journal => "journal",
        }
    }
}

/// No format has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("known are text and journal")]
pub struct UnknownLogFormat;

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(name: &str) -> Result<Self, UnknownLogFormat> {
        [Self::Text, Self::Journal].into_iter().find(|format| format.name() == name).ok_or(UnknownLogFormat)
    }
}
