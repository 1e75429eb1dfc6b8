//! `[limits]`: deadlines in seconds, bounds as counts.

use crate::config::checker::Checker;
use crate::config::raw;
use luassl_settings::Limits;
use toml::Spanned;

/// No deadline is longer than a day, in seconds.
const MAX_DEADLINE: f64 = 86_400.0;
/// No deadline is shorter than this, in seconds: below it nothing succeeds.
const MIN_DEADLINE: f64 = 0.01;
/// A control frame must hold a context with its names and still be a bounded allocation, in bytes.
const FRAME_BYTES: std::ops::RangeInclusive<i64> = 16 << 10..=64 << 20;
/// Any other bound.
const COUNT: std::ops::RangeInclusive<i64> = 1..=1 << 30;

/// Overrides the defaults with the given values.
pub(crate) fn check(checker: &mut Checker<'_>, raw: &raw::Limits) -> Limits {
    let mut limits = Limits::default();
    let deadlines = [
        (&raw.handshake, &mut limits.handshake_ms),
        (&raw.client_hello, &mut limits.client_hello_ms),
        (&raw.shutdown, &mut limits.shutdown_ms),
        (&raw.request, &mut limits.request_ms),
        (&raw.keeper, &mut limits.keeper_ms),
    ];
    for (given, limit) in deadlines {
        deadline(checker, given.as_ref(), limit);
    }
    let counts = [
        (&raw.connections_per_owner, &mut limits.connections_per_owner),
        (&raw.connections, &mut limits.connections),
        (&raw.contexts_per_owner, &mut limits.contexts_per_owner),
        (&raw.contexts, &mut limits.contexts),
        (&raw.listeners_per_owner, &mut limits.listeners_per_owner),
        (&raw.listeners, &mut limits.listeners),
        (&raw.handshakes_per_owner, &mut limits.handshakes_per_owner),
        (&raw.handshakes, &mut limits.handshakes),
        (&raw.handshakes_per_listener, &mut limits.handshakes_per_listener),
        (&raw.handshakes_per_source, &mut limits.handshakes_per_source),
        (&raw.psk_handshakes_per_owner, &mut limits.psk_handshakes_per_owner),
        (&raw.psk_handshakes, &mut limits.psk_handshakes),
        (&raw.undelivered_per_owner, &mut limits.undelivered_per_owner),
        (&raw.undelivered, &mut limits.undelivered),
        (&raw.control_connections_per_owner, &mut limits.control_connections_per_owner),
        (&raw.control_connections, &mut limits.control_connections),
        (&raw.ungranted_connections, &mut limits.ungranted_connections),
        (&raw.frame_bytes_in_flight_per_owner, &mut limits.frame_bytes_in_flight_per_owner),
        (&raw.frame_bytes_in_flight, &mut limits.frame_bytes_in_flight),
        (&raw.blob_bytes_per_owner, &mut limits.blob_bytes_per_owner),
        (&raw.blob_bytes, &mut limits.blob_bytes),
        (&raw.parsed_bytes_per_owner, &mut limits.parsed_bytes_per_owner),
        (&raw.parsed_bytes, &mut limits.parsed_bytes),
        (&raw.parsing_jobs_per_owner, &mut limits.parsing_jobs_per_owner),
        (&raw.parsing_cpu_per_owner, &mut limits.parsing_cpu_per_owner),
        (&raw.sessions_per_owner, &mut limits.sessions_per_owner),
        (&raw.sessions, &mut limits.sessions),
        (&raw.signatures_per_identity, &mut limits.signatures_per_identity),
        (&raw.signatures_per_front, &mut limits.signatures_per_front),
    ];
    for (given, limit) in counts {
        if let Some(number) = count(checker, given.as_ref(), COUNT) {
            *limit = number;
        }
    }
    if let Some(number) = count(checker, raw.frame_bytes.as_ref(), FRAME_BYTES) {
        limits.frame_bytes = number;
    }
    limits
}

fn deadline(checker: &mut Checker<'_>, given: Option<&Spanned<f64>>, limit: &mut u32) {
    let Some(seconds) = given else { return };
    if (MIN_DEADLINE..=MAX_DEADLINE).contains(seconds.get_ref()) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in the range just checked"
        )]
        let milliseconds = (seconds.get_ref() * 1000.0) as u32;
        *limit = milliseconds;
    } else {
        let hint = format!("give a number of seconds from {MIN_DEADLINE} to {MAX_DEADLINE}");
        checker.error(seconds.span(), format!("{} is not a valid deadline", seconds.get_ref()), hint);
    }
}

/// A count in `range`; none where there is none, or where it is outside, which is an error.
pub(crate) fn count(
    checker: &mut Checker<'_>,
    given: Option<&Spanned<i64>>,
    range: std::ops::RangeInclusive<i64>,
) -> Option<u32> {
    let given = given?;
    if !range.contains(given.get_ref()) {
        let hint = format!("give a number from {} to {}", range.start(), range.end());
        checker.error(given.span(), format!("{} is out of range", given.get_ref()), hint);
        return None;
    }
    u32::try_from(*given.get_ref()).ok()
}

/// A bound of a grant.
pub(crate) fn quota(checker: &mut Checker<'_>, given: Option<&Spanned<i64>>) -> Option<u32> {
    count(checker, given, COUNT)
}
