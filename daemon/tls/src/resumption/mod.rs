//! Resumption: the sessions that servers of this front resume, and that clients offer.
//!
//! Tickets need no store. Sessions with an id (TLS 1.2 without tickets, and OP_NO_TICKET in TLS 1.3) are in a cache
//! that all contexts of the front share, so that a context that is rebuilt does not lose any. OpenSSL's own cache,
//! which belongs to one context, is off. A session is resumed only within the scope in which it was made
//! ([`crate::resumption::scope`]).

pub(crate) mod cache;
pub(crate) mod scope;
pub(crate) mod tickets;

use crate::context::select::Selection;
use crate::ffi::resumption_ffi::{self as ffi, Decider, Event};
use crate::resumption::cache::{Bounds, Cache};
use crate::resumption::scope::ScopeBase;
use crate::resumption::tickets::{Keys, Opened, Scope, TicketKeys, now};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    ClientHelloResponse, Ssl, SslContextBuilder, SslOptions, SslRef, SslSession, SslSessionCacheMode,
    SslSessionRef, SslVersion,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

/// The number of tickets that a TLS 1.3 server sends after a full handshake. Clients use each ticket once (RFC 8446,
/// C.4).
const TICKETS: usize = 2;

/// The state of resumption that outlives contexts. There is one for each front.
pub struct Resumption {
    keys: Arc<TicketKeys>,
    /// The sessions of servers by their id.
    servers: Cache<Vec<u8>, Cached>,
    /// The sessions of clients by their scope.
    clients: Cache<Scope, Cached>,
    lifetime: AtomicU32,
}

/// A session that may be resumed. libssl wipes its secrets when it is freed.
struct Cached {
    session: SslSession,
    origin: u64,
    until: u64,
}

impl Resumption {
    /// Returns a state that resumes nothing before [`Resumption::configure`] allows it.
    #[must_use]
    pub fn new(keys: Arc<TicketKeys>) -> Self {
        let none = Bounds { per_owner: 0, all: 0 };
        Self { keys, servers: Cache::new(none), clients: Cache::new(none), lifetime: AtomicU32::new(0) }
    }

    /// Sets how long a session can be resumed (in seconds from its full handshake; 0 for never), and how many sessions
    /// are kept. The settings apply to new contexts.
    pub fn configure(&self, lifetime: u32, per_owner: u32, all: u32) {
        self.lifetime.store(lifetime, Ordering::Relaxed);
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let bounds = Bounds { per_owner: count(per_owner), all: count(all) };
        self.servers.set_bounds(bounds);
        self.clients.set_bounds(bounds);
    }

    fn lifetime(&self) -> u32 {
        self.lifetime.load(Ordering::Relaxed)
    }

    fn keep(&self, session: &SslSessionRef, origin: u64) -> Option<Cached> {
        let session = ffi::duplicate(session).filter(|copy| ffi::is_resumable(copy))?;
        Some(Cached { session, origin, until: origin.saturating_add(self.lifetime().into()) })
    }
}

impl Cached {
    fn is_good(&self) -> bool {
        now().as_secs() < self.until && !ffi::peer_has_expired(&self.session)
    }
}

/// The part of resumption that a context needs.
#[derive(Clone)]
pub(crate) struct Resuming {
    pub(crate) shared: Arc<Resumption>,
    pub(crate) owner: Arc<str>,
}

impl Resuming {
    /// Prepares a context. Returns `false` if it does not resume sessions.
    pub(crate) fn prepare(&self, builder: &mut SslContextBuilder, wanted: bool) -> Result<bool, ErrorStack> {
        let lifetime = self.shared.lifetime();
        builder.set_max_early_data(0)?;
        if !wanted || lifetime == 0 {
            builder.set_session_cache_mode(SslSessionCacheMode::OFF);
            builder.set_num_tickets(0)?;
            builder.set_options(SslOptions::NO_TICKET);
            return Ok(false);
        }
        builder.set_session_cache_mode(SslSessionCacheMode::BOTH | SslSessionCacheMode::NO_INTERNAL);
        builder.set_num_tickets(TICKETS)?;
        ffi::set_timeout(builder, lifetime);
        ffi::use_ticket_keys::<OfSessions>(builder)?;
        ffi::watch::<OfSessions>(builder);
        builder.set_new_session_callback(|ssl, session| made(ssl, &session));
        ffi::find_sessions_by(builder, |ssl, id| found(ssl, id));
        Ok(true)
    }

    /// Prepares a server's session before its handshake.
    pub(crate) fn serve(
        &self,
        ssl: &mut Ssl,
        common: &ScopeBase,
        expected: Option<&str>,
    ) -> Result<(), ErrorStack> {
        let scope = common.server(expected, None, std::iter::empty());
        ffi::set_scope(ssl, &scope)?;
        if !self.shared.keys.can_seal() {
            ffi::leave_out_tickets(ssl);
        }
        let expected = expected.map(str::to_owned);
        let Some(index) = *SERVER else { return Ok(()) };
        ssl.set_ex_data(index, Server { resuming: self.clone(), scope, expected });
        Ok(())
    }

    /// Prepares a client's session before its handshake. Offers a session of that scope, if there is one.
    pub(crate) fn offer(&self, ssl: &mut Ssl, scope: Scope) {
        let Some(index) = *CLIENT else { return };
        let kept = std::iter::from_fn(|| self.shared.clients.take(&self.owner, &scope)).find(Cached::is_good);
        let offered = kept.filter(|kept| ffi::offer(ssl, &kept.session).is_ok());
        let origin = offered.map(|kept| kept.origin);
        ssl.set_ex_data(index, Client { resuming: self.clone(), scope, origin });
    }
}

/// The data that a server's session keeps.
struct Server {
    resuming: Resuming,
    scope: Scope,
    expected: Option<String>,
}

/// The data that a client's session keeps.
struct Client {
    resuming: Resuming,
    scope: Scope,
    /// The time when the offered session was made.
    origin: Option<u64>,
}

static SERVER: LazyLock<Option<Index<Ssl, Server>>> = LazyLock::new(|| Ssl::new_ex_index().ok());
static CLIENT: LazyLock<Option<Index<Ssl, Client>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

fn server(ssl: &SslRef) -> Option<&Server> {
    ssl.ex_data((*SERVER)?)
}

fn client(ssl: &SslRef) -> Option<&Client> {
    ssl.ex_data((*CLIENT)?)
}

/// Binds a session to its scope in the ClientHello callback, which runs before the lookup of a session. The scope
/// depends on the requested name and on the identities for this name.
pub(crate) fn bind_to_sni(
    ssl: &mut SslRef,
    common: &ScopeBase,
    selection: &Selection,
) -> ClientHelloResponse {
    let name = ffi::asked_name(ssl).map(|name| String::from_utf8_lossy(&name).into_owned());
    let identities = selection.answers(name.as_deref());
    if let Some(server) = (*SERVER).and_then(|index| ssl.ex_data_mut(index)) {
        let identities = identities.iter().map(|place| &selection.all[*place]);
        let scope = common.server(server.expected.as_deref(), name.as_deref(), identities);
        server.scope = scope;
        // The session already has a scope of the same length, so this does not fail.
        if ffi::set_scope(ssl, &scope).is_err() {
            ffi::leave_out_tickets(ssl);
        }
    }
    ClientHelloResponse::SUCCESS
}

/// Handles a new session: a server's session with its id, or a session that a server has sent to a client.
fn made(ssl: &SslRef, session: &SslSessionRef) {
    if let Some(Server { resuming: Resuming { shared, owner }, .. }) = server(ssl) {
        let stateless = ssl.version2() == Some(SslVersion::TLS1_3) && !ffi::leaves_out_tickets(ssl);
        if stateless || session.id().is_empty() {
            return;
        }
        if let Some(kept) = shared.keep(session, origin_of(session)) {
            shared.servers.add(owner, &session.id().to_vec(), kept);
        }
    } else if let Some(client) = client(ssl) {
        let origin = client.origin.filter(|_| ssl.session_reused());
        let origin = origin.unwrap_or_else(|| u64::try_from(session.time()).unwrap_or_default());
        client.keep(session, origin);
    }
}

impl Client {
    fn keep(&self, session: &SslSessionRef, origin: u64) {
        let Resuming { shared, owner } = &self.resuming;
        if let Some(kept) = shared.keep(session, origin) {
            shared.clients.add(owner, &self.scope, kept);
        }
    }
}

/// Handles a session id that a client offers. libssl checks whether the session has the right scope.
fn found(ssl: &SslRef, id: &[u8]) -> Option<SslSession> {
    let Resuming { shared, owner } = &server(ssl)?.resuming;
    let good = |kept: &Cached| kept.is_good().then(|| ffi::duplicate(&kept.session)).flatten();
    shared.servers.look(owner, &id.to_vec(), good)?
}

/// Returns the time of the full handshake from which a session originates, in seconds since 1970.
fn origin_of(session: &SslSessionRef) -> u64 {
    let made = u64::try_from(session.time()).unwrap_or_default();
    ffi::ticket_appdata(session).map_or(made, u64::from_be_bytes)
}

/// The implementation of libssl's callbacks.
pub(crate) enum OfSessions {}

impl Decider for OfSessions {
    fn observe(ssl: &SslRef, event: Event) {
        match (event, server(ssl), client(ssl)) {
            // RFC 8446, 6.2: sessions that belong to a failed connection are forgotten.
            (Event::Failed, Some(Server { resuming: Resuming { shared, owner }, .. }), _) => {
                if let Some(session) = ssl.session() {
                    shared.servers.forget(owner, &session.id().to_vec());
                }
            }
            (Event::Failed, None, Some(client)) => {
                let Resuming { shared, owner } = &client.resuming;
                shared.clients.forget(owner, &client.scope);
            }
            // A TLS 1.2 session can be resumed again. It was removed from the cache in case this handshake fails.
            (Event::Done, None, Some(client))
                if ssl.session_reused() && ssl.version2() == Some(SslVersion::TLS1_2) =>
            {
                if let (Some(session), Some(origin)) = (ssl.session(), client.origin) {
                    client.keep(session, origin);
                }
            }
            _ => {}
        }
    }

    /// Returns the time of the full handshake. Without it, each resumption in TLS 1.3 would begin a new lifetime.
    fn origin(session: &SslSessionRef) -> [u8; 8] {
        origin_of(session).to_be_bytes()
    }

    fn is_fresh(session: &SslSessionRef) -> bool {
        let lifetime = u64::try_from(session.timeout()).unwrap_or_default();
        now().as_secs() < origin_of(session).saturating_add(lifetime) && !ffi::peer_has_expired(session)
    }

    fn seal(ssl: &SslRef) -> Option<Arc<Keys>> {
        let server = server(ssl)?;
        server.resuming.shared.keys.of(&server.scope)
    }

    fn open(ssl: &SslRef, name: &[u8; 16]) -> Option<Opened> {
        let keys = Self::seal(ssl)?;
        let (_, due) = keys.opening(name)?;
        // In TLS 1.3, a ticket is used once.
        let renew = due || ssl.version2() == Some(SslVersion::TLS1_3);
        Some(Opened { keys, renew })
    }
}
