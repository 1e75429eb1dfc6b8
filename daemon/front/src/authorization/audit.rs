//! The audit log of a front (`docs/audit.md`). It records which caller was refused which operation, and which caller
//! used which identity if a grant requires that record.

use crate::authorization::identity_name::AskedIdentity;
use crate::authorization::owner::Owner;
use crate::authorization::policy::{Denial, Operation, SocketSource};
use crate::authorization::principal::Principal;
use luassl_keeper_ipc::audit::{Line, Throttle};
use luassl_protocol::{Failure, Role};
use luassl_settings::AUDIT;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

/// The lines written for each owner that was refused an operation recently.
#[derive(Default)]
pub(crate) struct Audit {
    throttles: Mutex<HashMap<Owner, Throttle>>,
}

impl Audit {
    /// Logs an operation that no grant allows.
    pub(crate) fn refused(&self, principal: &Principal, operation: &Operation<'_>, denial: &Denial) {
        let denied = match denial {
            Denial::Identity(asked) => Some(AskedIdentity::unresolved(asked.clone())),
            _ => None,
        };
        let identities = denied.as_ref().map_or(operation.identities, std::slice::from_ref);
        let operation = Operation { identities, ..*operation };
        // One user can have many user IDs, so lines about callers without a grant are counted together.
        let whose = if *denial == Denial::NoGrant { Owner::ungranted() } else { principal.owner.clone() };
        self.refusal(principal, whose, &operation, denial.word(), &denial.to_string());
    }

    /// Logs an operation that a grant allows, but that is below a floor of this grant.
    pub(crate) fn below_floor(&self, principal: &Principal, operation: &Operation<'_>, failure: &Failure) {
        self.refusal(principal, principal.owner.clone(), operation, "floor", &failure.message);
    }

    fn refusal(
        &self,
        principal: &Principal,
        whose: Owner,
        operation: &Operation<'_>,
        reason: &str,
        detail: &str,
    ) {
        let now = Instant::now();
        let admitted = self.throttles().entry(whose.clone()).or_insert_with(|| Throttle::new(now)).admit(now);
        if let Some(held) = admitted {
            suppressed(&whose, held);
            let line = of(operation, "refused").word("reason", reason).text("detail", detail);
            write(&who(line, principal));
        }
    }

    /// Logs a session under a grant that requires a log line for each use.
    pub(crate) fn used(&self, principal: &Principal, operation: &Operation<'_>, peer: Option<SocketAddr>) {
        let line = who(of(operation, "used"), principal);
        write(&match peer {
            Some(peer) => line.text("peer", &peer.to_string()),
            None => line,
        });
    }

    /// Logs the number of suppressed lines for each flood that has ended, and forgets owners that have been quiet
    /// since.
    pub(crate) fn catch_up(&self, now: Instant) {
        self.throttles().retain(|owner, throttle| {
            suppressed(owner, throttle.ended(now).unwrap_or(0));
            !throttle.is_idle(now)
        });
    }

    fn throttles(&self) -> MutexGuard<'_, HashMap<Owner, Throttle>> {
        self.throttles.lock()
    }
}

fn of(operation: &Operation<'_>, event: &str) -> Line {
    let word = match (operation.source, operation.role) {
        (SocketSource::Context, _) => "context",
        (_, Some(Role::Client)) => "connect",
        (_, _) => "accept",
    };
    let line = Line::new("front", event).word("operation", word);
    let line = match operation.identities {
        [] => line,
        names => line.text("identity", &names.iter().map(|name| &*name.asked).collect::<Vec<_>>().join(",")),
    };
    match operation.source {
        SocketSource::Listener(name) => line.text("listener", name),
        _ => line,
    }
}

fn who(line: Line, principal: &Principal) -> Line {
    let line = line.word("uid", principal.owner.uid).word("gid", principal.gid).known("pid", principal.pid);
    line.text("socket", &principal.owner.socket)
}

fn suppressed(owner: &Owner, held: u64) {
    if held > 0 {
        let line = Line::new("front", "suppressed").word("lines", held);
        write(&if *owner == Owner::ungranted() {
            line.word("reason", Denial::NoGrant.word())
        } else {
            line.word("uid", owner.uid).text("socket", &owner.socket)
        });
    }
}

fn write(line: &Line) {
    tracing::info!(target: AUDIT, "{line}");
}
