//! `[limits]`: deadlines in seconds, and counts. [`Limits::ALL`] contains the limits and their ranges.

use crate::config::checker::Checker;
use crate::config::raw_limits::{RawLimit, RawLimits};
use luassl_settings::{Limit, Limits};
use std::ops::RangeInclusive;
use toml::Spanned;

/// Overrides the defaults with the given values.
pub(crate) fn check(checker: &mut Checker<'_>, raw: &RawLimits) -> Limits {
    let mut limits = Limits::default();
    for limit in Limits::ALL {
        let value = match raw.get(limit) {
            Some(RawLimit::Deadline(seconds)) => deadline(checker, seconds, limit),
            Some(RawLimit::Count(number)) => count(checker, Some(number), &limit.range),
            None => None,
        };
        if let Some(value) = value {
            limit.set(&mut limits, value);
        }
    }
    limits
}

/// Returns a deadline in milliseconds. Reports an error and returns `None` if it is outside its range.
fn deadline(checker: &mut Checker<'_>, given: &Spanned<f64>, limit: &Limit) -> Option<u32> {
    let [shortest, longest] = [limit.range.start(), limit.range.end()].map(|bound| limit.configured(*bound));
    let seconds = *given.get_ref();
    if !(shortest..=longest).contains(&seconds) {
        let hint = format!("give a number of seconds from {shortest} to {longest}");
        checker.error(given.span(), format!("{seconds} is not a valid deadline"), hint);
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range just checked")]
    let milliseconds = (seconds * 1000.0) as u32;
    Some(milliseconds)
}

/// Returns a count. Returns `None` if it is not given. Reports an error and returns `None` if it is outside
/// `range`.
pub(crate) fn count(
    checker: &mut Checker<'_>,
    given: Option<&Spanned<i64>>,
    range: &RangeInclusive<u32>,
) -> Option<u32> {
    let given = given?;
    let number = u32::try_from(*given.get_ref()).ok().filter(|number| range.contains(number));
    if number.is_none() {
        let hint = format!("give a number from {} to {}", range.start(), range.end());
        checker.error(given.span(), format!("{} is out of range", given.get_ref()), hint);
    }
    number
}

/// Returns a limit of a grant.
pub(crate) fn quota(checker: &mut Checker<'_>, given: Option<&Spanned<i64>>) -> Option<u32> {
    count(checker, given, &Limits::COUNTS)
}
