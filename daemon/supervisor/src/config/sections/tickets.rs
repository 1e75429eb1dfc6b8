//! `[tickets]`: the lifetime of sessions, and the source of their ticket keys.

use crate::config::checker::Checker;
use crate::config::model::{Tickets, USUAL_LIFETIME};
use crate::config::{
    raw,
    sections::{identities, limits},
};
use luassl_keeper_ipc::admin::EPOCH;

/// The range of lifetimes, in seconds. A session must not live longer than a ticket may (RFC 8446, 4.6.1).
const LIFETIME: std::ops::RangeInclusive<u32> = 0..=7 * 86_400;
/// The range of epochs, in seconds. A shorter epoch would end during a handshake.
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
