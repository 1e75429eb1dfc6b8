//! Builds OpenSSL contexts from descriptions under the grants in force, and reuses those that are in use already.

use crate::context::names::Resolved;
use crate::context::request::ContextRequest;
use crate::{
    authorization::{
        authority::{Active, Authority},
        owner::Owner,
        policy::{self, Operation, SocketSource},
        principal::Principal,
        quota::{Bound, Kind, Quotas},
    },
    keeper_client::KeeperLink,
    parsing::Parsing,
};
use luassl_protocol::{ContextSpec, ErrorCode, Failure, Role};
use luassl_settings::{Grant, Limits, Settings};
use luassl_tls::{self as tls, Floors, identity::IdentitySource};
use openssl::sha::Sha256;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::{Arc, Weak},
};
use tokio::time::timeout;

/// The terms that a grant sets for the contexts that are created under it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GrantTerms {
    pub(super) floors: Floors,
    pub(super) trusts: Option<Vec<String>>,
    /// Whether each use is logged.
    pub(super) audit: bool,
}

impl From<&Grant> for GrantTerms {
    fn from(grant: &Grant) -> Self {
        Self { floors: grant.into(), trusts: grant.trusts.clone(), audit: grant.audit }
    }
}

/// An OpenSSL context under a grant.
#[derive(Clone)]
pub(crate) struct AuthorizedContext {
    pub(crate) context: Arc<tls::Context>,
    /// The terms of the grant when the context was created.
    pub(super) terms: Arc<GrantTerms>,
}

/// An order for a context from a description.
pub(super) struct Order {
    pub(super) active: Arc<Active>,
    pub(super) principal: Principal,
    pub(super) context_request: Arc<ContextRequest>,
    /// The role; `None` if the context is only checked, when the client describes it.
    pub(super) role: Option<Role>,
    pub(super) listener: Option<String>,
}

impl Order {
    fn source(&self) -> SocketSource<'_> {
        match (&self.role, &self.listener) {
            (None, _) => SocketSource::Context,
            (_, Some(listener)) => SocketSource::Listener(listener),
            _ => SocketSource::OwnSocket,
        }
    }
}

/// One owner's account for parsed bytes.
struct ParsedBytes {
    quotas: Quotas,
    owner: Owner,
    bound: Bound,
}

impl ParsedBytes {
    fn new(quotas: &Quotas, owner: &Owner, limits: &Limits) -> Self {
        let bound = Bound { owner: limits.parsed_bytes_per_owner, all: Some(limits.parsed_bytes) };
        Self { quotas: quotas.clone(), owner: owner.clone(), bound }
    }
}

impl std::fmt::Debug for ParsedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the parsed bytes of {:?}", self.owner)
    }
}

impl tls::Ledger for ParsedBytes {
    fn charge(&self, bytes: u64) -> Result<tls::Charge, Failure> {
        Ok(Box::new(self.quotas.take(&self.owner, Kind::ParsedBytes, bytes, self.bound)?))
    }
}

/// The values that determine which OpenSSL context a recipe gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    owner: Owner,
    /// The digest of the description. The description may be large, and the entry of a dropped context remains for some
    /// time.
    spec: [u8; 32],
    floors: Floors,
    trusts: Option<Vec<String>>,
    recreated: bool,
    generation: u64,
}

/// Feeds hashed values to SHA-256. Equal values feed the same bytes, and different values feed different bytes.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns 0, and is not used, because only the digest is needed.
    fn finish(&self) -> u64 {
        0
    }
}

/// Returns the SHA-256 digest of a description, for this process only.
fn digest_of(spec: &ContextSpec) -> [u8; 32] {
    let mut hasher = Sha256Hasher(Sha256::new());
    spec.hash(&mut hasher);
    hasher.0.finish()
}

/// The OpenSSL contexts in use, by the values that they are made of.
pub(crate) struct Contexts {
    pub(super) authority: Arc<Authority>,
    pub(super) parsing: Arc<Parsing>,
    keeper: Arc<KeeperLink>,
    identities: Arc<dyn IdentitySource>,
    pub(super) trusts: Arc<tls::TrustStores>,
    resumption: Arc<tls::Resumption>,
    pub(super) cache: Mutex<HashMap<CacheKey, Weak<tls::Context>>>,
    /// The owners whose programs supplied DH parameters without a grant of DHE.
    without_dhe: Mutex<HashSet<Owner>>,
}

/// The maximum number of owners that are warned of unused DH parameters. Further owners are not warned.
const MAX_DHE_WARNINGS: usize = 1_024;

/// Dead entries are removed when the cache has grown by this number.
const SWEEP_AT: usize = 256;

impl Contexts {
    pub(crate) fn new(authority: Arc<Authority>, parsing: Arc<Parsing>, keeper: Arc<KeeperLink>) -> Self {
        Self {
            authority,
            parsing,
            identities: keeper.identities(),
            trusts: Arc::default(),
            resumption: Arc::new(tls::Resumption::new(keeper.tickets())),
            keeper,
            cache: Mutex::default(),
            without_dhe: Mutex::default(),
        }
    }

    /// Applies the settings for trusts, sessions and the keeper. Returns the faults of the trusts.
    pub(crate) fn configure(&self, settings: &Settings) -> Vec<String> {
        // This parses certificates, and takes some time.
        let faults = self.trusts.update(&settings.trusts);
        self.keeper.set_deadline(settings.limits.keeper());
        let Limits { sessions_per_owner, sessions, .. } = settings.limits;
        self.resumption.configure(settings.session_lifetime_s, sessions_per_owner, sessions);
        faults
    }

    /// Waits, up to the keeper's deadline, until the keeper has reported its identities.
    pub(crate) async fn identities_synced(&self) {
        // What is missing after that fails by its name.
        let _ = timeout(self.authority.limits().keeper(), self.keeper.synced()).await;
    }

    /// Builds the context of a description to check that it can be built.
    ///
    /// # Errors
    /// The same as [`Contexts::build`].
    pub(crate) async fn check(
        self: &Arc<Self>,
        principal: &Principal,
        context_request: &Arc<ContextRequest>,
    ) -> Result<AuthorizedContext, Failure> {
        let (active, principal) = (self.authority.active(), principal.clone());
        let order = Order {
            active,
            principal,
            context_request: Arc::clone(context_request),
            role: None,
            listener: None,
        };
        self.make(order).await
    }

    /// Builds a context in its owner's turn, on a thread that does not delay other work.
    ///
    /// # Errors
    /// The same as [`Contexts::build`], and if there is no room for the work.
    pub(super) async fn make(self: &Arc<Self>, order: Order) -> Result<AuthorizedContext, Failure> {
        let (owner, limits) = (order.principal.owner.clone(), order.active.settings.limits.clone());
        let contexts = Arc::clone(self);
        self.parsing.run(&owner, &limits, move || contexts.build(&order)).await?
    }

    /// Warns once for each owner that the DH parameters of its programs are not used.
    fn warn_of_dhe(&self, owner: &Owner) {
        let mut warned = self.without_dhe.lock();
        if warned.len() < MAX_DHE_WARNINGS && warned.insert(owner.clone()) {
            tracing::warn!(
                uid = owner.uid,
                socket = %owner.socket,
                "a program brings DH parameters, and its grant does not say `dhe = true`: it gets ECDHE"
            );
        }
    }

    /// Returns the context that a recipe gives under the principal's grant.
    ///
    /// # Errors
    /// Returns an error if the grants refuse it, if an identity has no loaded key, or if OpenSSL does not accept a
    /// setting.
    fn build(&self, order: &Order) -> Result<AuthorizedContext, Failure> {
        let Order { active, principal, context_request, role, .. } = order;
        let resolved = Resolved::new(active, &context_request.spec);
        let spec = &resolved.spec;
        let operation = Operation { identities: &resolved.identities, role: *role, source: order.source() };
        let grant = policy::decide(&active.settings, principal.caller(), operation).map_err(|denial| {
            self.authority.denied(principal, &operation, &denial);
            denial.into_failure()
        })?;
        let terms = Arc::new(GrantTerms::from(grant));
        let key = CacheKey {
            owner: principal.owner.clone(),
            spec: digest_of(spec),
            floors: terms.floors,
            trusts: terms.trusts.clone(),
            recreated: context_request.recreated,
            generation: active.generation,
        };
        if let Some(known) = self.known(&key) {
            return Ok(AuthorizedContext { context: known, terms });
        }
        let made = self.make_anew(order, &resolved, &terms);
        let context = Arc::new(made.inspect_err(|failure| {
            if failure.code == ErrorCode::Refused {
                self.authority.below_floor(principal, &operation, failure);
            }
        })?);
        // Keys are kept no longer than they are used.
        if spec.psk.is_none() {
            self.keep(key, &context);
        }
        Ok(AuthorizedContext { context, terms })
    }

    fn known(&self, key: &CacheKey) -> Option<Arc<tls::Context>> {
        self.cache.lock().get(key).and_then(Weak::upgrade)
    }

    /// Keeps a context in the cache. An owner's contexts are built one after the other, so no other task has built the
    /// same context in the meantime.
    fn keep(&self, key: CacheKey, context: &Arc<tls::Context>) {
        let mut cache = self.cache.lock();
        if cache.len() >= SWEEP_AT {
            cache.retain(|_, known| known.strong_count() > 0);
        }
        cache.insert(key, Arc::downgrade(context));
    }

    fn make_anew(
        &self,
        order: &Order,
        resolved: &Resolved,
        terms: &GrantTerms,
    ) -> Result<tls::Context, Failure> {
        let Order { active, principal: Principal { owner, .. }, context_request, .. } = order;
        let GrantTerms { floors, trusts, .. } = terms;
        let spec = &resolved.spec;
        resolved.check_loaded(active, &*self.identities)?;
        if spec.dh.is_some() && !floors.dhe {
            self.warn_of_dhe(owner);
        }
        let source = tls::ContextSource {
            spec: spec.clone(),
            blobs: context_request.blobs.clone(),
            floors: *floors,
            owner: owner.label(),
            recreated: context_request.recreated,
            ledger: Some(Arc::new(ParsedBytes::new(&self.authority.quotas, owner, &active.settings.limits))),
            trusts: trusts.as_deref().map(Arc::from),
        };
        let (identities, trusts) = (Arc::clone(&self.identities), Arc::clone(&self.trusts));
        tls::Context::new(source, identities, trusts, Arc::clone(&self.resumption))
    }
}
