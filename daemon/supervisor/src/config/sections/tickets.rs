//! `[tickets]`: how long sessions can be resumed, and where the keys of their tickets come from.

use crate::config::checker::Checker;
use crate::config::model::{Tickets, USUAL_LIFETIME};
use crate::config::{
    raw,
    sections::{identities, limits},
};
use luassl_keeper_ipc::admin::EPOCH;

/// Sessions live no longer than a ticket may (RFC 8446, 4.6.1), in seconds.
const LIFETIME: std::ops::RangeInclusive<u32> = 0..=7 * 86_400;
/// Shorter ones would end while a handshake runs, in seconds.
const EPOCHS: std::ops::RangeInclusive<u32> = 1..=30 * 86_400;
pub(crate) fn check(checker: &mut Checker<'_>, raw: &raw::Tickets) -> Tickets {
    let epoch = limits::count(checker, raw.epoch.as_ref(), &EPOCHS).unwrap_or(EPOCH);
    let lifetime = limits::count(checker, raw.lifetime.as_ref(), &LIFETIME);
    if let (Some(given), Some(lifetime)) = (&raw.lifetime, lifetime)
        && lifetime > epoch
    {
        let cause = format!("sessions of {lifetime} seconds outlive the keys of their tickets");
        checker.error(given.span(), cause, format!("give at most the `epoch`, which is {epoch}"));
    }
    let root = raw.root.as_ref().map(|text| identities::file_ref(checker, text));
    Tickets { epoch, lifetime: lifetime.unwrap_or(USUAL_LIFETIME.min(epoch)), root }
}
