//! Puts a pushed configuration in force.

use crate::{services::Services, withdrawal::end_what_is_withdrawn};
use luassl_settings::{PushReply, Settings};
use std::os::fd::OwnedFd;

/// Puts a pushed configuration in force. Its faults are reported, and the rest applies. Everything that no grant allows
/// any more is ended.
pub(super) fn activate(
    services: &Services,
    settings: Settings,
    listeners: Vec<(String, OwnedFd)>,
) -> PushReply {
    let Services { authority, contexts, acceptors, runtime, .. } = services;
    let faults = contexts.configure(&settings);
    acceptors.keep(listeners);
    acceptors.retain(|name| settings.listeners.contains(name));
    authority.activate(settings);
    acceptors.follow();
    let warnings = end_what_is_withdrawn(authority, runtime, acceptors);
    authority.is_ready();
    PushReply { faults, warnings }
}
