//! The log on standard error: one line for each event, without colour, whatever a peer or a client put into it.

use luassl_settings::{AUDIT, Log, LogFormat, OneLine};
use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, time::FormatTime, time::SystemTime as Clock};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Starts the log of this process. A second call does nothing.
pub fn start(log: Log) {
    let lines = tracing_subscriber::fmt::layer();
    let lines = lines.with_ansi(false).with_writer(std::io::stderr).event_format(Line(log.format));
    // Who was refused what is asked afterwards, by somebody who may have wanted a quiet log before.
    let shown = Targets::new()
        .with_default(LevelFilter::from_level(log.level))
        .with_target(AUDIT, log.level.max(Level::INFO));
    // An error only says that there is a log already.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(shown).with(lines));
}

/// How a line is made.
struct Line(LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        match self.0 {
            LogFormat::Journal => write!(writer, "<{}>", priority(level))?,
            LogFormat::Text => {
                Clock.format_time(&mut writer)?;
                write!(writer, " {level:>5} ")?;
            }
        }
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "{}", OneLine(&text))
    }
}

/// syslog(3)'s number for a level, as sd-daemon(3) puts it before a line.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
