//! A context: what a client asked for, checked once, and the SSL_CTX that follows from it and from the identities and
//! trusts of the moment.

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

/// The charge for what a session brought.
static CHARGED: LazyLock<Option<Index<Ssl, Charge>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

/// An immutable context. It follows renewals of its identities and changes of its trusts when it is told to
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

    /// A session, ready for its handshake: `host` is the name or address that the peer's certificate must carry,
    /// `sni` the server name to send (left out: `host`, where that is a name).
    ///
    /// # Errors
    /// `Invalid` for a host that is none and for a server without an identity, `Refused` for an outgoing connection
    /// without a host where the grant requires verification.
    pub fn session(&self, role: Role, host: Option<&str>, sni: Option<&str>) -> Result<Ssl, Failure> {
        let built = self.current();
        match role {
            Role::Server => session::server(&self.plan, &built, &self.resuming, host),
            Role::Client => session::client(&self.plan, &built, host, sni),
        }
    }

    /// A client's session that is verified by TLSA records. They are parsed, which takes its time, and charged for as long
    /// as the session lasts.
    ///
    /// # Errors
    /// As [`Context::session`]; `Invalid` for a host that is no name, or where the context was made without; `Limit` where
    /// the charge would pass a bound.
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

    /// What its grant demands.
    #[must_use]
    pub fn floors(&self) -> Floors {
        self.floors
    }

    /// The SSL_CTX of the moment, for a session that began in another context ([`super::Decision`]).
    #[must_use]
    pub fn current_context(&self) -> SslContext {
        self.current().context.clone()
    }

    /// A client's session as [`Context::session`] gives it, which takes up a former one with the same server where
    /// there is one. `peer` is where the connection leads.
    ///
    /// # Errors
    /// As [`Context::session`].
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

    /// Whether identities or trusts have changed since it was built.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.current().is_fresh(&*self.identities, &self.trusts)
    }

    /// Builds anew where identities or trusts have changed. Where that fails, what there is stays. It takes its time, and
    /// is not for a thread that others need.
    pub fn renew(&self) {
        // One thread builds; the others go on with what there is.
        let Some(_rebuilding) = self.rebuilding.try_lock() else { return };
        let built = self.current();
        if !built.is_fresh(&*self.identities, &self.trusts) {
            let new = built.renewed(&self.plan, &*self.identities, &self.trusts, &self.resuming);
            *self.built.write() = Arc::new(new);
        }
    }

    /// What was built last.
    fn current(&self) -> Arc<Built> {
        Arc::clone(&self.built.read())
    }
}
