//! What is allowed: the configuration in force, and the parts that limit, count and log the requests of programs.

use crate::authorization::{
    audit::Audit,
    counters::{Counters, EVERY, Refusal},
    identity_name::IdentityIndex,
    policy::{self, Denial, Operation, SocketSource},
    principal::Principal,
    quota::Quotas,
};
use luassl_keeper_ipc::audit::WINDOW;
use luassl_protocol::Failure;
use luassl_settings::{Limits, Settings};
use parking_lot::RwLock;
use std::{net::SocketAddr, sync::Arc, time::Instant};
use tokio::sync::watch;

/// The configuration in force. It is built completely and then swapped in.
#[derive(Default)]
pub(crate) struct Active {
    /// The number of configurations that were in force before this one.
    pub(crate) generation: u64,
    pub(crate) settings: Settings,
    /// The identities in the settings, by all names that they answer to.
    pub(crate) identities: IdentityIndex,
}

/// The part of a front that authorizes operations before they are executed for a program.
pub(crate) struct Authority {
    active: RwLock<Arc<Active>>,
    pushed: watch::Sender<bool>,
    pub(crate) quotas: Quotas,
    pub(crate) counters: Arc<Counters>,
    audit: Audit,
}

impl Authority {
    /// Returns an authority that allows nothing until settings are put in force.
    pub(crate) fn new() -> Self {
        let counters = Arc::<Counters>::default();
        Self {
            active: RwLock::default(),
            pushed: watch::Sender::new(false),
            quotas: Quotas::counted_by(Arc::clone(&counters)),
            counters,
            audit: Audit::default(),
        }
    }

    pub(crate) fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read())
    }

    pub(crate) fn limits(&self) -> Limits {
        self.active().settings.limits.clone()
    }

    /// Puts settings in force.
    pub(crate) fn activate(&self, settings: Settings) {
        // The index is built before any lock is taken.
        let identities = IdentityIndex::new(&settings);
        let mut slot = self.active.write();
        *slot = Arc::new(Active { generation: slot.generation + 1, settings, identities });
    }

    /// Changes the settings in force without changing their generation.
    #[cfg(test)]
    pub(crate) fn amend(&self, change: impl FnOnce(&mut Settings)) {
        let mut slot = self.active.write();
        let mut settings = slot.settings.clone();
        change(&mut settings);
        let identities = IdentityIndex::new(&settings);
        *slot = Arc::new(Active { generation: slot.generation, settings, identities });
    }

    /// Signals that the first push is in force, with all that follows from it.
    pub(crate) fn is_ready(&self) {
        self.pushed.send_replace(true);
    }

    /// Waits until the first push is in force.
    pub(crate) async fn ready(&self) {
        let mut pushed = self.pushed.subscribe();
        // The sender lives as long as `self`.
        let _ = pushed.wait_for(|pushed| *pushed).await;
    }

    /// Returns the number of connections that a principal may have: the largest number that its grants give, or the
    /// default.
    pub(crate) fn connection_bound(&self, principal: &Principal) -> u32 {
        let active = self.active();
        let default = active.settings.limits.connections_per_owner;
        policy::largest(&active.settings, principal.caller(), |grant| grant.max_connections, default)
    }

    /// Returns the number of contexts that a principal may have: the largest number that its grants give, or the
    /// default.
    pub(crate) fn context_bound(&self, principal: &Principal) -> u32 {
        let active = self.active();
        let default = active.settings.limits.contexts_per_owner;
        policy::largest(&active.settings, principal.caller(), |grant| grant.max_contexts, default)
    }

    /// Returns whether any grant applies to the principal.
    pub(crate) fn has_grant(&self, principal: &Principal) -> bool {
        policy::has_grant(&self.active().settings, principal.caller())
    }

    /// Checks that a grant applies to the principal.
    ///
    /// # Errors
    /// Returns `Refused` if no grant applies. The refusal is counted and written to the audit log.
    pub(crate) fn granted(&self, principal: &Principal) -> Result<(), Failure> {
        if self.has_grant(principal) { Ok(()) } else { Err(self.without_grant(principal)) }
    }

    /// Returns the refusal for any request of a caller without a grant.
    pub(crate) fn without_grant(&self, principal: &Principal) -> Failure {
        let operation = Operation { identities: &[], role: None, source: SocketSource::Context };
        self.denied(principal, &operation, &Denial::NoGrant);
        Denial::NoGrant.into_failure()
    }

    /// Counts and logs an operation that no grant allows.
    pub(crate) fn denied(&self, principal: &Principal, operation: &Operation<'_>, denial: &Denial) {
        self.counters.refused(&principal.owner, Refusal::Denied(denial.word()));
        self.audit.refused(principal, operation, denial);
    }

    /// Counts and logs an operation that is below a floor of the grant that allows it.
    pub(crate) fn below_floor(&self, principal: &Principal, operation: &Operation<'_>, failure: &Failure) {
        self.counters.refused(&principal.owner, Refusal::Floor);
        self.audit.below_floor(principal, operation, failure);
    }

    /// Logs a session under a grant that requires a log line for each session.
    pub(crate) fn used(&self, principal: &Principal, operation: &Operation<'_>, peer: Option<SocketAddr>) {
        self.audit.used(principal, operation, peer);
    }

    /// Logs the end of floods of refusals, and the counts. Never returns.
    pub(crate) async fn keep_log(&self) {
        let mut counted = Instant::now();
        loop {
            tokio::time::sleep(WINDOW).await;
            self.audit.catch_up(Instant::now());
            if counted.elapsed() >= EVERY {
                counted = Instant::now();
                self.counters.tell();
            }
        }
    }
}
