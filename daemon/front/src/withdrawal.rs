//! The withdrawal of grants by a reload. When the grants change, each connection and listener is judged again as a new
//! one would be.

use crate::{
    accept::Acceptors,
    authorization::{
        admission::{objection, withdrawn},
        authority::Authority,
        policy::Denial,
        standing::Standing,
    },
    runtime::ConnectionRuntime,
};
use luassl_protocol::Role;
use luassl_tls::Floors;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The number of log lines of one reload about what it ends. The rest is summarized in one line.
const MAX_WARNINGS: usize = 64;

/// What a reload ends: the owner, the reason and the count.
#[derive(Default)]
pub(super) struct Ended {
    connections: BTreeMap<(String, &'static str), u64>,
    listeners: Vec<String>,
}

impl Ended {
    fn warnings(&self) -> Vec<String> {
        let connections = self.connections.iter().map(|((whose, why), count)| {
            format!(
                "{count} open {} {whose} end: {why}",
                if *count == 1 { "connection" } else { "connections" }
            )
        });
        let mut lines: Vec<_> = self.listeners.iter().cloned().chain(connections).collect();
        if let Some(more) = lines.len().checked_sub(MAX_WARNINGS).filter(|more| *more > 0) {
            lines.truncate(MAX_WARNINGS);
            lines.push(format!("and {more} more such lines"));
        }
        lines
    }
}

/// Ends the connections and listeners that no grant allows any more, after a warning for each owner and identity.
/// Returns the warnings.
pub(super) fn end_what_is_withdrawn(
    authority: &Authority,
    runtime: &ConnectionRuntime,
    acceptors: &Acceptors,
) -> Vec<String> {
    let active = authority.active();
    let mut ended = Ended::default();
    let mut verdicts: HashMap<*const Standing, Result<Floors, Denial>> = HashMap::new();
    let mut condemned = Vec::new();
    // Kept until the end, because an address identifies a standing only while the standing lives.
    let all: Vec<_> = runtime.connections.all().into_iter().map(|one| (one.standing(), one)).collect();
    for ((standing, negotiated), connection) in &all {
        let Some(standing) = standing else { continue };
        let verdict = verdicts.entry(Arc::as_ptr(standing)).or_insert_with(|| standing.judge(&active));
        if let Some(why) = objection(verdict, negotiated.as_ref(), standing.role) {
            *ended.connections.entry((standing.label(), why)).or_default() += 1;
            condemned.push((connection, why));
        }
    }
    let listeners = acceptors.withdrawn(&active);
    ended.listeners = listeners
        .iter()
        .map(|listener| {
            let standing = listener.sessions.standing(Role::Server);
            format!("a listener {} ends: no grant allows it any more", standing.label())
        })
        .collect();
    let warnings = ended.warnings();
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    condemned.iter().for_each(|(connection, why)| connection.withdraw(withdrawn(why)));
    acceptors.drop_withdrawn();
    listeners.iter().for_each(|listener| listener.fail());
    warnings
}
