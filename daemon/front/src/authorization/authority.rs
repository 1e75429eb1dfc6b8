//! What is allowed: the configuration in force, and what bounds, counts and logs what programs ask for.

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

/// The configuration in force, built whole and then swapped in.
#[derive(Default)]
pub(crate) struct Active {
    /// How many have been in force before it.
    pub(crate) generation: u64,
    pub(crate) settings: Settings,
    /// The settings' identities by everything that they answer to.
    pub(crate) identities: IdentityIndex,
}

/// What a front's parts ask before they do something for a program.
pub(crate) struct Authority {
    active: RwLock<Arc<Active>>,
    pushed: watch::Sender<bool>,
    pub(crate) quotas: Quotas,
    pub(crate) counters: Arc<Counters>,
    audit: Audit,
}

impl Authority {
    /// One that allows nothing, until something is put in force.
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
        // Before anything is locked.
        let identities = IdentityIndex::new(&settings);
        let mut slot = self.active.write();
        *slot = Arc::new(Active { generation: slot.generation + 1, settings, identities });
    }

    /// Changes the settings in force, and leaves their generation.
    #[cfg(test)]
    pub(crate) fn amend(&self, change: impl FnOnce(&mut Settings)) {
        let mut slot = self.active.write();
        let mut settings = slot.settings.clone();
        change(&mut settings);
        let identities = IdentityIndex::new(&settings);
        *slot = Arc::new(Active { generation: slot.generation, settings, identities });
    }

    /// Says that the first push is in force with all that follows from it.
    pub(crate) fn is_ready(&self) {
        self.pushed.send_replace(true);
    }

    /// Waits for the first push.
    pub(crate) async fn ready(&self) {
        let mut pushed = self.pushed.subscribe();
        // The sender lives as long as this.
        let _ = pushed.wait_for(|pushed| *pushed).await;
    }

    /// How many connections a principal may have: the largest that its grants give, or the default.
    pub(crate) fn connection_bound(&self, principal: &Principal) -> u32 {
        let active = self.active();
        let default = active.settings.limits.connections_per_owner;
        policy::largest(&active.settings, principal.caller(), |grant| grant.max_connections, default)
    }

    /// How many contexts a principal may have, likewise.
    pub(crate) fn context_bound(&self, principal: &Principal) -> u32 {
        let active = self.active();
        let default = active.settings.limits.contexts_per_owner;
        policy::largest(&active.settings, principal.caller(), |grant| grant.max_contexts, default)
    }

    /// Whether any grant is the principal's.
    pub(crate) fn has_grant(&self, principal: &Principal) -> bool {
        policy::has_grant(&self.active().settings, principal.caller())
    }

    /// Whether any grant is the principal's.
    ///
    /// # Errors
    /// `Refused` where none is; that is counted and in the audit log then.
    pub(crate) fn granted(&self, principal: &Principal) -> Result<(), Failure> {
        if self.has_grant(principal) { Ok(()) } else { Err(self.without_grant(principal)) }
    }

    /// The refusal of whatever a caller without a grant asks for.
    pub(crate) fn without_grant(&self, principal: &Principal) -> Failure {
        let operation = Operation { identities: &[], role: None, source: SocketSource::Context };
        self.denied(principal, &operation, &Denial::NoGrant);
        Denial::NoGrant.into_failure()
    }

    /// Counts and logs that no grant allows something.
    pub(crate) fn denied(&self, principal: &Principal, operation: &Operation<'_>, denial: &Denial) {
        self.counters.refused(&principal.owner, Refusal::Denied(denial.word()));
        self.audit.refused(principal, operation, denial);
    }

    /// Counts and logs that something is below the floor of the grant that allows it.
    pub(crate) fn below_floor(&self, principal: &Principal, operation: &Operation<'_>, failure: &Failure) {
        self.counters.refused(&principal.owner, Refusal::Floor);
        self.audit.below_floor(principal, operation, failure);
    }

    /// Logs a session under a grant that wants each one logged.
    pub(crate) fn used(&self, principal: &Principal, operation: &Operation<'_>, peer: Option<SocketAddr>) {
        self.audit.used(principal, operation, peer);
    }

    /// Looks after floods of refusals that have ended, and logs the counts, for ever.
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
