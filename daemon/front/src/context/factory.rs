//! Creates sessions from a description, each under the grant in force at that moment.

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

/// The peer of a session.
#[derive(Debug)]
pub(crate) enum Peer {
    /// An earlier session with the same peer may be resumed.
    Resumable(Option<SocketAddr>),
    /// No session is resumed.
    New(Option<SocketAddr>),
    /// No session is resumed, and the server is verified by TLSA records.
    ByRecords(Option<SocketAddr>, Dane),
}

impl Peer {
    fn address(&self) -> Option<SocketAddr> {
        let (Self::Resumable(address) | Self::New(address) | Self::ByRecords(address, _)) = self;
        *address
    }
}

/// An authorized context, and the generation of the configuration under which it was built.
pub(super) type Current = (u64, AuthorizedContext);

/// A description in use. It creates new sessions under the grant in force at that moment.
pub(crate) struct SessionFactory {
    contexts: Arc<Contexts>,
    pub(crate) principal: Principal,
    context_request: Arc<ContextRequest>,
    listener: Option<String>,
    /// The last context for each role, with the generation of the configuration.
    current: Mutex<[Option<Current>; 2]>,
    /// Held by the task that builds the context again. Other tasks that need it wait.
    making: tokio::sync::Mutex<()>,
    /// The basis of the connections that it creates, for each role.
    standings: [OnceLock<Arc<Standing>>; 2],
    /// Whether it was logged that an earlier context stays in service.
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

    /// Returns the basis of a connection that it creates.
    pub(crate) fn standing(&self, role: Role) -> Arc<Standing> {
        let make = || {
            Standing::new(self.principal.clone(), &self.context_request.spec, self.listener.clone(), role)
                .into()
        };
        Arc::clone(self.standings[usize::from(role == Role::Server)].get_or_init(make))
    }

    /// Returns whether the settings of another use are the same.
    ///
    /// # Errors
    /// The same as [`Parsing::run`](crate::parsing::Parsing::run).
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
            // The same files may be named relative to different directories.
            Resolved::new(&active, &one.spec).spec == Resolved::new(&active, &two.spec).spec
        };
        self.contexts.parsing.run(owner, &self.contexts.authority.limits(), compare).await
    }

    /// Creates a session for one handshake. A client's session to a known `peer` may resume an earlier one.
    ///
    /// # Errors
    /// Returns an error if no grant allows it, or no longer allows it, if an identity is not loaded, or if a host
    /// cannot be checked.
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

    /// Creates a client's session with TLSA records, which may contain certificates and keys. They are parsed in their
    /// owner's turn, on a thread that does not delay other work.
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

    /// Returns the floors that the grant demands of connections.
    ///
    /// # Errors
    /// The same as [`SessionFactory::session`].
    pub(crate) async fn floors(&self, role: Role) -> Result<Floors, Failure> {
        Ok(self.granted(role).await?.context.floors())
    }

    /// Returns the OpenSSL context for a server's session that began in another context, whose grant demands `floors`.
    ///
    /// # Errors
    /// Returns the objection of the grants, or an error if a grant demands different floors: the demands on the peer do
    /// not change after the start of the handshake.
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

    /// Checks that a session can be created.
    ///
    /// # Errors
    /// The same as [`SessionFactory::session`].
    pub(crate) async fn check(&self, role: Role) -> Result<(), Failure> {
        self.granted(role).await?.context.session(role, None, None).map(drop)
    }

    /// Calls `log` with the operation that the audit log records for a session.
    fn with_operation(&self, role: Role, log: impl FnOnce(&Operation<'_>)) {
        let asked = identities_of(&self.context_request.spec).into_iter();
        let identities: Vec<_> = asked.map(AskedIdentity::unresolved).collect();
        log(&Operation { identities: &identities, role: Some(role), source: self.source() });
    }

    fn source(&self) -> SocketSource<'_> {
        self.listener.as_deref().map_or(SocketSource::OwnSocket, SocketSource::Listener)
    }

    /// Returns the last context for a role, with its generation.
    pub(super) fn last(&self, role: Role) -> Option<Current> {
        self.current.lock()[usize::from(role == Role::Server)].clone()
    }

    /// Returns the OpenSSL context under the present configuration. It is built again if the configuration, an identity
    /// or a trust has changed.
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

    /// Applies a change of an identity or a trust. While one handshake waits for that, others continue with the
    /// existing context.
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

    /// Logs that the existing context stays in service for now. It is logged once until a new context is in service,
    /// because a program whose queue is full can start any number of handshakes.
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
            // If a reload breaks the context, the earlier context stays in service, unless the grant has different
            // terms now.
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

    /// Returns whether the grant in force has the same terms as when the context was built.
    fn is_under_the_same_terms(&self, role: Role, active: &Active, former: &AuthorizedContext) -> bool {
        self.standing(role).grant(active).is_ok_and(|grant| GrantTerms::from(grant) == *former.terms)
    }
}

/// Returns whether the next attempt may succeed without a reload. A program can cause such a failure, so it affects one
/// use only.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::Limit | ErrorCode::Timeout)
}
