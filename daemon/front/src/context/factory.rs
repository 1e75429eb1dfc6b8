//! Sessions out of a description, each under the grant that holds at that moment.

use crate::authorization::{
    authority::Active,
    identity_name::AskedIdentity,
    policy::{Operation, SocketSource},
    principal::Principal,
    standing::Standing,
};
use crate::context::build::{AuthorizedContext, Contexts, GrantTerms, Order};
use crate::context::names::Resolved;
use crate::context::request::{ContextRequest, identities_of};
use luassl_protocol::{Dane, ErrorCode, Failure, Role};
use luassl_tls::{self as tls, Floors};
use openssl::ssl::{Ssl, SslContext};
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// Who is at the other end of a session.
#[derive(Debug)]
pub(crate) enum Peer {
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

/// What was granted, and the generation of the configuration that it was made under.
pub(super) type Current = (u64, AuthorizedContext);

/// A description in use: new sessions by it, under the grant that holds at that moment.
pub(crate) struct SessionFactory {
    contexts: Arc<Contexts>,
    pub(crate) principal: Principal,
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
    pub(crate) fn new(
        contexts: Arc<Contexts>,
        principal: Principal,
        context_request: Arc<ContextRequest>,
        listener: Option<String>,
    ) -> Self {
        let (current, standings) = (Mutex::default(), Default::default());
        let (making, said) = (tokio::sync::Mutex::default(), AtomicBool::new(false));
        Self { contexts, principal, context_request, listener, current, making, standings, said }
    }

    /// What a connection rests on that it makes.
    pub(crate) fn standing(&self, role: Role) -> Arc<Standing> {
        let make = || {
            Standing::new(self.principal.clone(), &self.context_request.spec, self.listener.clone(), role)
                .into()
        };
        Arc::clone(self.standings[usize::from(role == Role::Server)].get_or_init(make))
    }

    /// Whether the settings of another use are the same.
    ///
    /// # Errors
    /// As [`Parsing::run`](crate::parsing::Parsing::run).
    pub(crate) async fn is_like(&self, other: &Self) -> Result<bool, Failure> {
        if self.principal.owner != other.principal.owner || self.listener != other.listener {
            return Ok(false);
        }
        let (active, one, two) = (
            self.contexts.authority.active(),
            Arc::clone(&self.context_request),
            Arc::clone(&other.context_request),
        );
        let owner = &self.principal.owner;
        let compare = move || {
            // The same files may be named from different directories.
            Resolved::new(&active, &one.spec).spec == Resolved::new(&active, &two.spec).spec
        };
        self.contexts.parsing.run(owner, &self.contexts.authority.limits(), compare).await
    }

    /// A session for one handshake. A client's to a known `peer` may be one that is taken up again.
    ///
    /// # Errors
    /// Why there is none: no grant (any more), an identity that is not loaded, a host that cannot be checked.
    pub(crate) async fn session(
        &self,
        role: Role,
        host: Option<&str>,
        sni: Option<&str>,
        peer: Peer,
    ) -> Result<Ssl, Failure> {
        let AuthorizedContext { context, terms } = self.granted(role).await?;
        let address = peer.address();
        let session = match (role, peer) {
            (Role::Client, Peer::ByRecords(_, dane)) => {
                self.session_by_records(context, (host, sni), dane).await
            }
            (Role::Client, Peer::Resumable(Some(peer))) => context.session_with(host, sni, peer),
            _ => context.session(role, host, sni),
        };
        match &session {
            Ok(_) if terms.audit => {
                self.with_operation(role, |operation| {
                    self.contexts.authority.used(&self.principal, operation, address)
                });
            }
            Err(failure) if failure.code == ErrorCode::Refused => {
                self.with_operation(role, |operation| {
                    self.contexts.authority.below_floor(&self.principal, operation, failure);
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
        context: Arc<tls::Context>,
        (host, sni): (Option<&str>, Option<&str>),
        dane: Dane,
    ) -> Result<Ssl, Failure> {
        let (host, sni) = (host.map(str::to_owned), sni.map(str::to_owned));
        let parse = move || context.session_by_records(host.as_deref(), sni.as_deref(), &dane);
        self.contexts.parsing.run(&self.principal.owner, &self.contexts.authority.limits(), parse).await?
    }

    /// What the grant demands of connections.
    ///
    /// # Errors
    /// As [`SessionFactory::session`].
    pub(crate) async fn floors(&self, role: Role) -> Result<Floors, Failure> {
        Ok(self.granted(role).await?.context.floors())
    }

    /// The OpenSSL context for a server's session that began in another one, whose grant demands `floors`.
    ///
    /// # Errors
    /// What the grants have against it, and a grant that demands something else: what is asked of the peer stays as it
    /// began.
    pub(crate) async fn chosen(
        &self,
        floors: Floors,
        peer: Option<SocketAddr>,
    ) -> Result<SslContext, Failure> {
        let AuthorizedContext { context, terms } = self.granted(Role::Server).await?;
        if context.floors() != floors {
            let message = "the grants of the two contexts demand different things of a peer";
            return Err(Failure::new(ErrorCode::Refused, message));
        }
        if terms.audit {
            self.with_operation(Role::Server, |operation| {
                self.contexts.authority.used(&self.principal, operation, peer)
            });
        }
        Ok(context.current_context())
    }

    /// Looks whether there would be a session.
    ///
    /// # Errors
    /// As [`SessionFactory::session`].
    pub(crate) async fn check(&self, role: Role) -> Result<(), Failure> {
        self.granted(role).await?.context.session(role, None, None).map(drop)
    }

    /// What the audit log says of a session.
    fn with_operation(&self, role: Role, log: impl FnOnce(&Operation<'_>)) {
        let asked = identities_of(&self.context_request.spec).into_iter();
        let identities: Vec<_> = asked.map(AskedIdentity::unresolved).collect();
        log(&Operation { identities: &identities, role: Some(role), source: self.source() });
    }

    fn source(&self) -> SocketSource<'_> {
        self.listener.as_deref().map_or(SocketSource::OwnSocket, SocketSource::Listener)
    }

    /// What was made last for a role, and under which generation.
    pub(super) fn last(&self, role: Role) -> Option<Current> {
        self.current.lock()[usize::from(role == Role::Server)].clone()
    }

    /// The OpenSSL context under the present configuration; made anew when that, an identity or a trust has changed.
    pub(super) async fn granted(&self, role: Role) -> Result<AuthorizedContext, Failure> {
        let is_current =
            |(generation, _): &Current| *generation == self.contexts.authority.active().generation;
        if let Some((_, granted)) = self.last(role).filter(is_current) {
            if granted.context.is_stale() {
                self.renew(&granted).await;
            }
            return Ok(granted);
        }
        let _making = self.making.lock().await;
        match self.last(role).filter(is_current) {
            Some((_, granted)) => Ok(granted),
            None => self.make(role).await,
        }
    }

    /// Has an identity's or a trust's change followed; while one handshake waits for that, others go on with what there
    /// is.
    async fn renew(&self, granted: &AuthorizedContext) {
        let Ok(_making) = self.making.try_lock() else { return };
        let context = Arc::clone(&granted.context);
        let renewed = self
            .contexts
            .parsing
            .run(&self.principal.owner, &self.contexts.authority.limits(), move || context.renew())
            .await;
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

    async fn make(&self, role: Role) -> Result<AuthorizedContext, Failure> {
        let order = Order {
            active: self.contexts.authority.active(),
            principal: self.principal.clone(),
            context_request: Arc::clone(&self.context_request),
            role: Some(role),
            listener: self.listener.clone(),
        };
        let active = Arc::clone(&order.active);
        let context = match (self.contexts.make(order).await, self.last(role)) {
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
        let mut current = self.current.lock();
        current[usize::from(role == Role::Server)] = Some((active.generation, context.clone()));
        Ok(context)
    }

    /// Whether the grant in force says the same as when a context was made.
    fn is_under_the_same_terms(&self, role: Role, active: &Active, former: &AuthorizedContext) -> bool {
        self.standing(role).grant(active).is_ok_and(|grant| GrantTerms::from(grant) == *former.terms)
    }
}

/// Whether the next attempt may succeed without a reload. A program can bring such a failure about, so it decides for one
/// use only.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::Limit | ErrorCode::Timeout)
}
