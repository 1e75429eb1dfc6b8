//! The log settings of a process of the daemon.

use std::str::FromStr;

/// The target of the audit log's lines. They are logged at every level.
pub const AUDIT: &str = "luassl::audit";

/// The level and the format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged.
    pub level: tracing::Level,
    /// The format of a line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: tracing::Level::INFO, format: LogFormat::Text }
    }
}

/// The format of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// With the time, for a terminal or a file.
    Text,
    /// With sd-daemon(3)'s priority and without the time, which the journal adds itself.
    Journal,
}

impl LogFormat {
    /// Returns its name in the configuration and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Journal => "journal",
        }
    }
}

/// The error that no format has the given name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("known are text and journal")]
pub struct UnknownLogFormat;

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(name: &str) -> Result<Self, UnknownLogFormat> {
        [Self::Text, Self::Journal].into_iter().find(|format| format.name() == name).ok_or(UnknownLogFormat)
    }
}
