//! Contexts of clients: what they asked for, and the OpenSSL contexts that this gives under each grant.

#[cfg(test)]
pub(super) mod tests;

use super::{
    Active, Front,
    counters::Refusal,
    owner::Owner,
    policy::{self, Caller, Denial, Operation, SocketSource},
    quota::{Bound, Kind, QuotaGuard, Quotas},
    standing::Standing,
};
use luassl_protocol::{ContextSpec, Dane, Digest, ErrorCode, Failure, Role};
use luassl_settings::{Grant, Limits};
use luassl_tls::{self as tls, Floors};
use openssl::{
    sha::Sha256,
    ssl::{Ssl, SslContext},
};
use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// A context as a client described it, with the bytes that it refers to.
pub(super) struct ContextRequest {
    pub(super) spec: ContextSpec,
    pub(super) blobs: HashMap<Digest, Arc<[u8]>>,
    /// Whether the client had it before.
    pub(super) recreated: bool,
    /// Its parts of the bounds on contexts and on what is parsed.
    pub(super) _slots: Vec<QuotaGuard>,
}

impl ContextRequest {
    /// Whether its handshakes may ask the client for keys.
    pub(super) fn asks_for_keys(&self) -> bool {
        self.spec.psk.as_ref().is_some_and(|psk| psk.ask)
    }
}

/// All identities that a description names.
pub(super) fn identities_of(spec: &ContextSpec) -> Vec<String> {
    let by_sni = spec.sni.iter().map(|entry| entry.identity.clone());
    let also = spec.also.iter().map(|also| also.identity.clone());
    spec.identity.iter().cloned().chain(spec.identities.iter().cloned()).chain(by_sni).chain(also).collect()
}

/// The digests that a description refers to.
pub(super) fn digests_of(spec: &ContextSpec) -> Vec<Digest> {
    let mut digests: Vec<Digest> = spec.chain.iter().chain(&spec.chain_or_trust).copied().collect();
    digests.extend(spec.also.iter().filter_map(|also| also.chain));
    digests.extend(spec.trust.certificates.iter().chain(&spec.trust.crls).copied());
    if let Some(luassl_protocol::DhSpec::Parameters(digest)) = &spec.dh {
        digests.push(*digest);
    }
    digests
}

/// Whoever asked, kept for as long as what was asked for lasts.
#[derive(Debug, Clone)]
pub(super) struct Principal {
    pub(super) owner: Owner,
    /// The primary group.
    pub(super) gid: u32,
    pub(super) gids: Arc<[u32]>,
    /// The process that connected, where the kernel can tell.
    pub(super) pid: Option<u32>,
}

impl Principal {
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller { uid: self.owner.uid, gids: &self.gids, socket: &self.owner.socket }
    }
}

/// Who is at the other end of a session.
#[derive(Debug)]
pub(super) enum Peer {
    /// A former session with the same peer may be taken up again.
    Resumable(Option<SocketAddr>),
    /// None is.
    New(Option<SocketAddr>),
    /// None is, and a server is verified by TLSA records.
    ByRecords(Option<SocketAddr>, Dane),
}

impl Peer {
    fn address(&self) -> Option<SocketAddr> {
        let (Self::Resumable(address) | Self::New(address) | Self::ByRecords(address, _)) = self;
        *address
    }
}

/// What a grant says of the contexts that are made under it.
#[derive(Debug, PartialEq, Eq)]
struct Terms {
    floors: Floors,
    trusts: Option<Vec<String>>,
    /// Whether each use is logged.
    audit: bool,
}

impl From<&Grant> for Terms {
    fn from(grant: &Grant) -> Self {
        Self { floors: grant.into(), trusts: grant.trusts.clone(), audit: grant.audit }
    }
}

/// An OpenSSL context under a grant.
#[derive(Clone)]
pub(super) struct AuthorizedContext {
    pub(super) context: Arc<tls::Context>,
    /// The grant's when it was made.
    terms: Arc<Terms>,
}

/// What was granted, and the generation of the configuration that it was made under.
type Current = (u64, AuthorizedContext);

/// A recipe in use: new sessions by it, under the grant that holds at that moment.
pub(super) struct SessionFactory {
    pub(super) principal: Principal,
    context_request: Arc<ContextRequest>,
    listener: Option<String>,
    /// What it gave last, for each role, and under which generation of the configuration.
    current: Mutex<[Option<Current>; 2]>,
    /// Held by whoever has it made anew; others that need it wait.
    making: tokio::sync::Mutex<()>,
    /// What connections rest on that it makes, for each role.
    standings: [OnceLock<Arc<Standing>>; 2],
    /// Whether it was said that a former state of it stays in service.
    said: AtomicBool,
}

impl SessionFactory {
    pub(super) fn new(
        principal: Principal,
        context_request: Arc<ContextRequest>,
        listener: Option<String>,
    ) -> Self {
        let (current, standings) = (Mutex::default(), Default::default());
        let (making, said) = (tokio::sync::Mutex::default(), AtomicBool::new(false));
        Self { principal, context_request, listener, current, making, standings, said }
    }

    /// What a connection rests on that it makes.
    pub(super) fn standing(&self, role: Role) -> Arc<Standing> {
        let make = || {
            Standing::new(self.principal.clone(), &self.context_request.spec, self.listener.clone(), role)
                .into()
        };
        Arc::clone(self.standings[usize::from(role == Role::Server)].get_or_init(make))
    }

    /// Whether the settings of another use are the same.
    ///
    /// # Errors
    /// As [`Parsing::run`](super::parsing::Parsing::run).
    pub(super) async fn is_like(&self, front: &Front, other: &Self) -> Result<bool, Failure> {
        if self.principal.owner != other.principal.owner || self.listener != other.listener {
            return Ok(false);
        }
        let (active, one, two) =
            (front.active(), Arc::clone(&self.context_request), Arc::clone(&other.context_request));
        let owner = &self.principal.owner;
        let compare = move || {
            // The same files may be named from different directories.
            with_full_names(&active, &one.spec) == with_full_names(&active, &two.spec)
        };
        front.parsing.run(owner, &front.limits(), compare).await
    }

    /// A session for one handshake. A client's to a known `peer` may be one that is taken up again.
    ///
    /// # Errors
    /// Why there is none: no grant (any more), an identity that is not loaded, a host that cannot be checked.
    pub(super) async fn session(
        &self,
        front: &Arc<Front>,
        role: Role,
        host: Option<&str>,
        sni: Option<&str>,
        peer: Peer,
    ) -> Result<Ssl, Failure> {
        let AuthorizedContext { context, terms } = self.granted(front, role).await?;
        let address = peer.address();
        let session = match (role, peer) {
            (Role::Client, Peer::ByRecords(_, dane)) => {
                self.session_by_records(front, context, (host, sni), dane).await
            }
            (Role::Client, Peer::Resumable(Some(peer))) => context.session_with(host, sni, peer),
            _ => context.session(role, host, sni),
        };
        match &session {
            Ok(_) if terms.audit => {
                self.with_operation(role, |operation| front.audit.used(&self.principal, operation, address));
            }
            Err(failure) if failure.code == ErrorCode::Refused => {
                front.counters.refused(&self.principal.owner, Refusal::Floor);
                self.with_operation(role, |operation| {
                    front.audit.below_floor(&self.principal, operation, failure);
                });
            }
            _ => {}
        }
        session
    }

    /// A client's session with TLSA records, which may hold certificates and keys. They are parsed in their owner's turn,
    /// where that holds up nobody else.
    async fn session_by_records(
        &self,
        front: &Front,
        context: Arc<tls::Context>,
        (host, sni): (Option<&str>, Option<&str>),
        dane: Dane,
    ) -> Result<Ssl, Failure> {
        let (host, sni) = (host.map(str::to_owned), sni.map(str::to_owned));
        let parse = move || context.session_by_records(host.as_deref(), sni.as_deref(), &dane);
        front.parsing.run(&self.principal.owner, &front.limits(), parse).await?
    }

    /// What the grant demands of connections.
    ///
    /// # Errors
    /// As [`SessionFactory::session`].
    pub(super) async fn floors(&self, front: &Arc<Front>, role: Role) -> Result<Floors, Failure> {
        Ok(self.granted(front, role).await?.context.floors())
    }

    /// The OpenSSL context for a server's session that began in another one, whose grant demands `floors`.
    ///
    /// # Errors
    /// What the grants have against it, and a grant that demands something else: what is asked of the peer stays as it
    /// began.
    pub(super) async fn chosen(
        &self,
        front: &Arc<Front>,
        floors: Floors,
        peer: Option<SocketAddr>,
    ) -> Result<SslContext, Failure> {
        let AuthorizedContext { context, terms } = self.granted(front, Role::Server).await?;
        if context.floors() != floors {
            let message = "the grants of the two contexts demand different things of a peer";
            return Err(Failure::new(ErrorCode::Refused, message));
        }
        if terms.audit {
            self.with_operation(Role::Server, |operation| front.audit.used(&self.principal, operation, peer));
        }
        Ok(context.current_context())
    }

    /// Looks whether there would be a session.
    ///
    /// # Errors
    /// As [`SessionFactory::session`].
    pub(super) async fn check(&self, front: &Arc<Front>, role: Role) -> Result<(), Failure> {
        self.granted(front, role).await?.context.session(role, None, None).map(drop)
    }

    /// What the audit log says of a session.
    fn with_operation(&self, role: Role, log: impl FnOnce(&Operation<'_>)) {
        let identities = identities_of(&self.context_request.spec);
        log(&Operation { identities: &identities, role: Some(role), way: self.way() });
    }

    fn way(&self) -> SocketSource<'_> {
        self.listener.as_deref().map_or(SocketSource::OwnSocket, SocketSource::Listener)
    }

    /// What was made last for a role, and under which generation.
    fn last(&self, role: Role) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(role == Role::Server)].clone()
    }

    /// The OpenSSL context under the present configuration; made anew when that, an identity or a trust has changed.
    async fn granted(&self, front: &Arc<Front>, role: Role) -> Result<AuthorizedContext, Failure> {
        let is_current = |(generation, _): &Current| *generation == front.active().generation;
        if let Some((_, granted)) = self.last(role).filter(is_current) {
            if granted.context.is_stale() {
                self.renew(front, &granted).await;
            }
            return Ok(granted);
        }
        let _making = self.making.lock().await;
        match self.last(role).filter(is_current) {
            Some((_, granted)) => Ok(granted),
            None => self.make(front, role).await,
        }
    }

    /// Has an identity's or a trust's change followed; while one handshake waits for that, others go on with what there
    /// is.
    async fn renew(&self, front: &Front, granted: &AuthorizedContext) {
        let Ok(_making) = self.making.try_lock() else { return };
        let context = Arc::clone(&granted.context);
        let renewed =
            front.parsing.run(&self.principal.owner, &front.limits(), move || context.renew()).await;
        match renewed {
            Ok(()) => self.said.store(false, Ordering::Relaxed),
            Err(failure) => self.say_once(&failure),
        }
    }

    /// Says that what there was stays in service for now: once until something new is, since a program whose queue is full
    /// has as many handshakes as it likes.
    fn say_once(&self, failure: &Failure) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!("a context keeps its former certificates and trust for now: {failure}");
        }
    }

    async fn make(&self, front: &Arc<Front>, role: Role) -> Result<AuthorizedContext, Failure> {
        let order = Order {
            active: front.active(),
            principal: self.principal.clone(),
            context_request: Arc::clone(&self.context_request),
            role: Some(role),
            listener: self.listener.clone(),
        };
        let active = Arc::clone(&order.active);
        let context = match (order.carry_out(front).await, self.last(role)) {
            (Ok(context), _) => {
                self.said.store(false, Ordering::Relaxed);
                context
            }
            // What a reload has broken leaves the former context in service, unless the grant says something else now.
            (Err(failure), Some((_, former)))
                if failure.code != ErrorCode::Refused
                    && self.is_under_the_same_terms(role, &active, &former) =>
            {
                if is_passing(&failure) {
                    self.say_once(&failure);
                    return Ok(former);
                }
                tracing::warn!("a context keeps its former state: {failure}");
                former
            }
            (Err(failure), _) => return Err(failure),
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current[usize::from(role == Role::Server)] = Some((active.generation, context.clone()));
        Ok(context)
    }

    /// Whether the grant in force says the same as when a context was made.
    fn is_under_the_same_terms(&self, role: Role, active: &Active, former: &AuthorizedContext) -> bool {
        self.standing(role).grant(active).is_ok_and(|grant| Terms::from(grant) == *former.terms)
    }
}

/// Whether the next attempt may succeed without a reload. A program can bring such a failure about, so it decides for one
/// use only.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::Limit | ErrorCode::Timeout)
}

/// A context that is to be made by a recipe.
struct Order {
    active: Arc<Active>,
    principal: Principal,
    context_request: Arc<ContextRequest>,
    /// None for the check alone, when the client describes it.
    role: Option<Role>,
    listener: Option<String>,
}

impl Order {
    /// Has it made in its owner's turn, where it holds up nobody else.
    async fn carry_out(self, front: &Arc<Front>) -> Result<AuthorizedContext, Failure> {
        let (owner, limits) = (self.principal.owner.clone(), self.active.settings.limits.clone());
        let built = {
            let front = Arc::clone(front);
            move || front.contexts.build(&front, &self)
        };
        front.parsing.run(&owner, &limits, built).await?
    }

    fn way(&self) -> SocketSource<'_> {
        match (&self.role, &self.listener) {
            (None, _) => SocketSource::Context,
            (_, Some(listener)) => SocketSource::Listener(listener),
            _ => SocketSource::OwnSocket,
        }
    }
}

/// Makes a recipe's context to see whether it can be made.
///
/// # Errors
/// As [`SessionFactory::session`].
pub(super) async fn first(
    front: &Arc<Front>,
    principal: &Principal,
    context_request: &Arc<ContextRequest>,
) -> Result<AuthorizedContext, Failure> {
    let (active, principal, context_request) =
        (front.active(), principal.clone(), Arc::clone(context_request));
    Order { active, principal, context_request, role: None, listener: None }.carry_out(front).await
}

/// One owner's account for what is parsed.
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

/// What decides which OpenSSL context a recipe gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    owner: Owner,
    /// Of the description, which may be large, and the entry of a context that is no more stays for a while.
    spec: [u8; 32],
    floors: Floors,
    trusts: Option<Vec<String>>,
    recreated: bool,
    generation: u64,
}

/// Feeds what is hashed to SHA-256. Equal values feed the same bytes, and other values feed others.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is what counts.
    fn finish(&self) -> u64 {
        0
    }
}

/// The SHA-256 of a description, for this process only.
fn digest_of(spec: &ContextSpec) -> [u8; 32] {
    let mut hasher = Sha256Hasher(Sha256::new());
    spec.hash(&mut hasher);
    hasher.0.finish()
}

/// OpenSSL contexts by what they are made of, as long as somebody uses them.
#[derive(Default)]
pub(super) struct Contexts {
    cache: Mutex<HashMap<CacheKey, Weak<tls::Context>>>,
    /// Owners whose programs brought DH parameters without a grant of DHE.
    without_dhe: Mutex<HashSet<Owner>>,
}

/// Owners that are warned of DH parameters that are not used; beyond them nobody is.
const MAX_DHE_WARNINGS: usize = 1_024;

/// Dead entries are swept out when the cache has grown by this many.
const SWEEP_AT: usize = 256;

impl Contexts {
    /// Says once for each owner that its programs' DH parameters are not used.
    fn warn_of_dhe(&self, owner: &Owner) {
        let mut warned = self.without_dhe.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MAX_DHE_WARNINGS && warned.insert(owner.clone()) {
            tracing::warn!(
                uid = owner.uid,
                socket = %owner.socket,
                "a program brings DH parameters, and its grant does not say `dhe = true`: it gets ECDHE"
            );
        }
    }

    /// The context that a recipe gives under the principal's grant.
    ///
    /// # Errors
    /// Refused by the grants; an identity without a loaded key; a setting that OpenSSL does not take.
    fn build(&self, front: &Front, order: &Order) -> Result<AuthorizedContext, Failure> {
        let Order { active, principal, context_request, role, .. } = order;
        let spec = with_full_names(active, &context_request.spec);
        let identities = identities_of(&spec);
        let operation = Operation { identities: &identities, role: *role, way: order.way() };
        let grant = policy::decide(&active.settings, principal.caller(), operation).map_err(|denial| {
            front.counters.refused(&principal.owner, Refusal::Denied(denial.word()));
            front.audit.refused(principal, &operation, &denial);
            as_asked(denial, &identities, &context_request.spec).into_failure()
        })?;
        let terms = Arc::new(Terms::from(grant));
        let key = CacheKey {
            owner: principal.owner.clone(),
            spec: digest_of(&spec),
            floors: terms.floors,
            trusts: terms.trusts.clone(),
            recreated: context_request.recreated,
            generation: active.generation,
        };
        if let Some(known) = self.known(&key) {
            return Ok(AuthorizedContext { context: known, terms });
        }
        let made = make(front, order, &spec, &terms);
        let context = Arc::new(made.inspect_err(|failure| {
            if failure.code == ErrorCode::Refused {
                front.counters.refused(&principal.owner, Refusal::Floor);
                front.audit.below_floor(principal, &operation, failure);
            }
        })?);
        // Keys stay nowhere longer than they are used.
        if spec.psk.is_none() {
            self.keep(key, &context);
        }
        Ok(AuthorizedContext { context, terms })
    }

    fn known(&self, key: &CacheKey) -> Option<Arc<tls::Context>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Weak::upgrade)
    }

    /// An owner's contexts are made one after the other, so that nobody has made the same one in between.
    fn keep(&self, key: CacheKey, context: &Arc<tls::Context>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= SWEEP_AT {
            cache.retain(|_, known| known.strong_count() > 0);
        }
        cache.insert(key, Arc::downgrade(context));
    }
}

fn make(front: &Front, order: &Order, spec: &ContextSpec, terms: &Terms) -> Result<tls::Context, Failure> {
    let Order { active, principal: Principal { owner, .. }, context_request, .. } = order;
    let Terms { floors, trusts, .. } = terms;
    if spec.dh.is_some() && !floors.dhe {
        front.contexts.warn_of_dhe(owner);
    }
    let source = tls::ContextSource {
        spec: with_declared_names(active, spec)?,
        blobs: context_request.blobs.clone(),
        floors: *floors,
        owner: owner.label(),
        recreated: context_request.recreated,
        ledger: Some(Arc::new(ParsedBytes::new(&front.quotas, owner, &active.settings.limits))),
        trusts: trusts.as_deref().map(Arc::from),
    };
    let (identities, trusts) = (Arc::clone(&active.identities), Arc::clone(&front.trusts));
    tls::Context::new(source, identities, trusts, Arc::clone(&front.resumption))
}

/// The same description, with each identity that nothing answers to as given joined to the program's directory and
/// resolved as text, where something answers to that.
fn with_full_names(active: &Active, spec: &ContextSpec) -> ContextSpec {
    let mut spec = spec.clone();
    let directory = spec.directory.take();
    let also = spec.also.iter_mut().map(|also| &mut also.identity);
    let names = spec.identity.iter_mut().chain(&mut spec.identities).chain(also);
    for name in names.chain(spec.sni.iter_mut().map(|entry| &mut entry.identity)) {
        if let Some(full) = full_name(active, directory.as_deref(), name) {
            *name = full;
        }
    }
    spec
}

/// The full name of an identity that nothing answers to as given, seen from `directory`, where something answers to that.
pub(super) fn full_name(active: &Active, directory: Option<&str>, name: &str) -> Option<String> {
    let has_full_name = directory.is_some() || name.starts_with('/');
    if !has_full_name || policy::declared(&active.settings, name).is_some() {
        return None;
    }
    let full = policy::joined(directory.unwrap_or_default(), name);
    policy::declared(&active.settings, &full).is_some().then_some(full)
}

/// The same denial in the caller's words: the full name of what it asked for would tell that there is such an identity.
fn as_asked(denial: Denial, identities: &[String], spec: &ContextSpec) -> Denial {
    let Denial::Identity(full) = denial else { return denial };
    let place = identities.iter().position(|name| *name == full);
    let asked = place.and_then(|place| identities_of(spec).into_iter().nth(place));
    Denial::Identity(asked.unwrap_or(full))
}

/// The same description with each identity under its declared name.
fn with_declared_names(active: &Active, spec: &ContextSpec) -> Result<ContextSpec, Failure> {
    let declared = |asked: &mut String| -> Result<(), Failure> {
        // The grant has been found by this name, so it is declared.
        let name = policy::declared(&active.settings, asked)
            .ok_or_else(|| Denial::Identity(asked.clone()).into_failure())?;
        if let Some(fault) = active.settings.identities.get(name).and_then(|identity| identity.fault.as_ref())
            && active.identities.current(name).is_none()
        {
            let own_words = format!("identity `{name}`: ");
            let fault = fault.strip_prefix(&own_words).unwrap_or(fault);
            return Err(Failure::new(
                ErrorCode::Unavailable,
                format!("identity \"{asked}\" is not loaded: {fault}"),
            ));
        }
        name.clone_into(asked);
        Ok(())
    };
    let mut spec = spec.clone();
    spec.identity.as_mut().map(declared).transpose()?;
    spec.identities.iter_mut().try_for_each(declared)?;
    spec.also.iter_mut().try_for_each(|also| declared(&mut also.identity))?;
    spec.sni.iter_mut().try_for_each(|entry| declared(&mut entry.identity))?;
    Ok(spec)
}
