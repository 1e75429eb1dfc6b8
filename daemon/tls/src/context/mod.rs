//! A context: the description from a client, checked once, and the SSL_CTX that is built from it and from the current
//! identities and trusts.

pub(crate) mod build;
pub(crate) mod ciphers;
pub(crate) mod credentials;
pub(crate) mod key_log;
pub(crate) mod options;
pub(crate) mod plan;
pub(crate) mod select;
pub(crate) mod session;
pub(crate) mod source;
pub(crate) mod versions;

use crate::context::build::Built;
use crate::context::plan::Plan;
use crate::context::source::{Charge, ContextSource, Floors, Ledger};
use crate::identity::IdentitySource;
use crate::resumption::{Resuming, Resumption};
use crate::verify::client_supplied::charged;
use crate::verify::trust::TrustStores;
use luassl_protocol::{Dane, Failure, Role};
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslContext};
use parking_lot::{Mutex, RwLock};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

/// The charge for the data that a session supplied.
static CHARGED: LazyLock<Option<Index<Ssl, Charge>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

/// An immutable context. It applies renewals of its identities and changes of its trusts on request
/// ([`Context::renew`]).
pub struct Context {
    plan: Plan,
    floors: Floors,
    identities: Arc<dyn IdentitySource>,
    trusts: Arc<TrustStores>,
    resuming: Resuming,
    ledger: Option<Arc<dyn Ledger>>,
    built: RwLock<Arc<Built>>,
    rebuilding: Mutex<()>,
}

impl Context {
    /// Checks everything and builds the context for the first time.
    ///
    /// # Errors
    /// A [`Failure`] that names the field, value, identity or trust that cannot be used.
    pub fn new(
        source: ContextSource,
        identities: Arc<dyn IdentitySource>,
        trusts: Arc<TrustStores>,
        resumption: Arc<Resumption>,
    ) -> Result<Self, Failure> {
        let plan = Plan::new(&source, &*identities, &trusts)?;
        let resuming = Resuming { shared: resumption, owner: source.owner };
        let built = RwLock::new(Arc::new(Built::new(&plan, &*identities, &trusts, &resuming)?));
        Ok(Self {
            plan,
            floors: source.floors,
            identities,
            trusts,
            resuming,
            ledger: source.ledger,
            built,
            rebuilding: Mutex::new(()),
        })
    }

    /// Returns a session that is ready for its handshake. `host` is the name or address that the peer's certificate
    /// must carry. `sni` is the server name to send; if it is `None`, `host` is sent if it is a name.
    ///
    /// # Errors
    /// `Invalid` for a host that is not valid and for a server without an identity, `Refused` for an outgoing
    /// connection without a host if the grant requires verification.
    pub fn session(&self, role: Role, host: Option<&str>, sni: Option<&str>) -> Result<Ssl, Failure> {
        let built = self.current();
        match role {
            Role::Server => session::server(&self.plan, &built, &self.resuming, host),
            Role::Client => session::client(&self.plan, &built, host, sni),
        }
    }

    /// Returns a client's session that is verified with TLSA records. Parsing the records takes time, and they are
    /// charged until the session ends.
    ///
    /// # Errors
    /// As for [`Context::session`]; `Invalid` for a host that is not a name, or if the context was made without TLSA
    /// records; `Limit` if the charge would exceed a limit.
    pub fn session_by_records(
        &self,
        host: Option<&str>,
        sni: Option<&str>,
        dane: &Dane,
    ) -> Result<Ssl, Failure> {
        let mut ssl = session::client(&self.plan, &self.current(), host, sni)?;
        let bytes = dane.records.iter().map(|record| record.data.len()).sum();
        let ((), charge) =
            charged(self.ledger.as_deref(), bytes, || crate::verify::dane::expect(&mut ssl, dane))?;
        if let (Some(index), Some(charge)) = (*CHARGED, charge) {
            ssl.set_ex_data(index, charge);
        }
        Ok(ssl)
    }

    /// Returns the requirements of the grant.
    #[must_use]
    pub fn floors(&self) -> Floors {
        self.floors
    }

    /// Returns the current SSL_CTX, for a session that began in another context ([`super::Decision`]).
    #[must_use]
    pub fn current_context(&self) -> SslContext {
        self.current().context.clone()
    }

    /// Returns a client's session as [`Context::session`] does. It resumes a former session with the same server if
    /// there is one. `peer` is the address of the connection.
    ///
    /// # Errors
    /// As for [`Context::session`].
    pub fn session_with(
        &self,
        host: Option<&str>,
        sni: Option<&str>,
        peer: SocketAddr,
    ) -> Result<Ssl, Failure> {
        let built = self.current();
        let mut ssl = session::client(&self.plan, &built, host, sni)?;
        if let Some(common) = &built.common {
            self.resuming.offer(&mut ssl, common.client(host, sni, peer));
        }
        Ok(ssl)
    }

    /// Returns whether identities or trusts have changed since the build.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.current().is_fresh(&*self.identities, &self.trusts)
    }

    /// Builds the context again if identities or trusts have changed. If that fails, the current state stays. It takes
    /// time, so it must not run on a thread that others need.
    pub fn renew(&self) {
        // One thread builds. The other threads continue with the current state.
        let Some(_rebuilding) = self.rebuilding.try_lock() else { return };
        let built = self.current();
        if !built.is_fresh(&*self.identities, &self.trusts) {
            let new = built.renewed(&self.plan, &*self.identities, &self.trusts, &self.resuming);
            *self.built.write() = Arc::new(new);
        }
    }

    /// Returns the state of the last build.
    fn current(&self) -> Arc<Built> {
        Arc::clone(&self.built.read())
    }
}
