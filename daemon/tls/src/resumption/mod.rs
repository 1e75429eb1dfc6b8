//! Resumption: which sessions servers of this front take up again, and clients offer.
//!
//! Tickets need no store; sessions with an id (TLS 1.2 without tickets, and OP_NO_TICKET in TLS 1.3) lie in a cache that
//! all contexts of the front share, so that a context that is built anew loses none. OpenSSL's own cache, which belongs
//! to one context, is off. Nothing is resumed outside the scope that it was made in ([`crate::resumption::scope`]).

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

/// Tickets that a TLS 1.3 server sends after a full handshake: clients use each once (RFC 8446, C.4).
const TICKETS: usize = 2;

/// What resumption has that outlives contexts; one for each front.
pub struct Resumption {
    keys: Arc<TicketKeys>,
    /// Servers' sessions by their id.
    servers: Cache<Vec<u8>, Cached>,
    /// Clients' sessions by their scope.
    clients: Cache<Scope, Cached>,
    lifetime: AtomicU32,
}

/// A session that may be resumed. Freeing it wipes its secrets, which is libssl's part.
struct Cached {
    session: SslSession,
    origin: u64,
    until: u64,
}

impl Resumption {
    /// Nothing is resumed before [`Resumption::configure`] allows it.
    #[must_use]
    pub fn new(keys: Arc<TicketKeys>) -> Self {
        let none = Bounds { per_owner: 0, all: 0 };
        Self { keys, servers: Cache::new(none), clients: Cache::new(none), lifetime: AtomicU32::new(0) }
    }

    /// How long a session can be resumed (in seconds from its full handshake; 0 for never), and how many are kept. New
    /// contexts follow.
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

/// What a context needs of all this.
#[derive(Clone)]
pub(crate) struct Resuming {
    pub(crate) shared: Arc<Resumption>,
    pub(crate) owner: Arc<str>,
}

impl Resuming {
    /// Prepares a context; false where it is not to resume anything.
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

    /// Before a server's handshake.
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

    /// Before a client's handshake: offers a session of that scope, where there is one.
    pub(crate) fn offer(&self, ssl: &mut Ssl, scope: Scope) {
        let Some(index) = *CLIENT else { return };
        let kept = std::iter::from_fn(|| self.shared.clients.take(&self.owner, &scope)).find(Cached::is_good);
        let offered = kept.filter(|kept| ffi::offer(ssl, &kept.session).is_ok());
        let origin = offered.map(|kept| kept.origin);
        ssl.set_ex_data(index, Client { resuming: self.clone(), scope, origin });
    }
}

/// What a server's session remembers.
struct Server {
    resuming: Resuming,
    scope: Scope,
    expected: Option<String>,
}

/// What a client's session remembers.
struct Client {
    resuming: Resuming,
    scope: Scope,
    /// When the session that is offered was made.
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

/// The ClientHello callback, which runs before any session is looked for: the scope depends on the name that is asked
/// for and on who answers to it.
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
        // It has set one before, of the same length: this does not fail.
        if ffi::set_scope(ssl, &scope).is_err() {
            ffi::leave_out_tickets(ssl);
        }
    }
    ClientHelloResponse::SUCCESS
}

/// A session was made: a server's with its id, or one that a server has sent to a client.
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

/// A client offers a session by its id. Whether it is of the right scope is for libssl to say.
fn found(ssl: &SslRef, id: &[u8]) -> Option<SslSession> {
    let Resuming { shared, owner } = &server(ssl)?.resuming;
    let good = |kept: &Cached| kept.is_good().then(|| ffi::duplicate(&kept.session)).flatten();
    shared.servers.look(owner, &id.to_vec(), good)?
}

/// When the full handshake was that a session goes back to, in seconds since 1970.
fn origin_of(session: &SslSessionRef) -> u64 {
    let made = u64::try_from(session.time()).unwrap_or_default();
    ffi::ticket_appdata(session).map_or(made, u64::from_be_bytes)
}

/// What libssl's callbacks ask.
pub(crate) enum OfSessions {}

impl Decider for OfSessions {
    fn observe(ssl: &SslRef, event: Event) {
        match (event, server(ssl), client(ssl)) {
            // RFC 8446, 6.2: what belongs to a failed connection is forgotten.
            (Event::Failed, Some(Server { resuming: Resuming { shared, owner }, .. }), _) => {
                if let Some(session) = ssl.session() {
                    shared.servers.forget(owner, &session.id().to_vec());
                }
            }
            (Event::Failed, None, Some(client)) => {
                let Resuming { shared, owner } = &client.resuming;
                shared.clients.forget(owner, &client.scope);
            }
            // A session of TLS 1.2 can be resumed again; it was taken out for the case that this fails.
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

    /// Without it, each resumption in TLS 1.3 would begin a new lifetime.
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
        // In TLS 1.3 a ticket is used once.
        let renew = due || ssl.version2() == Some(SslVersion::TLS1_3);
        Some(Opened { keys, renew })
    }
}
