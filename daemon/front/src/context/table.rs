//! The contexts of a control connection, by their numbers.

use crate::authorization::standing::Standing;
use crate::context::{factory::SessionFactory, request::ContextRequest};
use luassl_protocol::{ErrorCode, Failure, Role};
use luassl_tls::{self as tls, Floors};
use openssl::ssl::SslContext;
use parking_lot::{Mutex, MutexGuard};
use std::{collections::HashMap, net::SocketAddr, sync::Arc};

/// The contexts of a control connection. The handshakes that it started share them.
#[derive(Clone, Default)]
pub(crate) struct ContextTable(Arc<Mutex<HashMap<u64, Arc<ContextEntry>>>>);

impl ContextTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<ContextEntry>>> {
        self.0.lock()
    }

    /// Returns the context of a number.
    ///
    /// # Errors
    /// Returns an error if the number is unknown.
    pub(crate) fn find(&self, number: u64) -> Result<Arc<ContextEntry>, Failure> {
        self.lock().get(&number).cloned().ok_or_else(|| unknown_context(number))
    }

    pub(crate) fn insert(&self, number: u64, entry: ContextEntry) {
        self.lock().insert(number, Arc::new(entry));
    }

    /// Removes the context of a number.
    ///
    /// # Errors
    /// Returns an error if the number is unknown.
    pub(crate) fn remove(&self, number: u64) -> Result<(), Failure> {
        self.lock().remove(&number).map(drop).ok_or_else(|| unknown_context(number))
    }

    /// Returns the basis of a server's session with the context of `number`.
    pub(crate) fn standing(&self, number: u64) -> Option<Arc<Standing>> {
        self.lock().get(&number).map(|made| made.sessions.standing(Role::Server))
    }

    /// Returns the OpenSSL context of `number` for a server's session that began in another context, whose grant
    /// demands `floors`.
    ///
    /// # Errors
    /// Returns an error if the number is unknown, and as [`SessionFactory::chosen`].
    pub(crate) async fn for_server(
        &self,
        number: u64,
        floors: Floors,
        peer: Option<SocketAddr>,
    ) -> Result<SslContext, Failure> {
        self.find(number)?.sessions.chosen(floors, peer).await
    }
}

/// A context of this control connection.
pub(crate) struct ContextEntry {
    pub(crate) context_request: Arc<ContextRequest>,
    /// Its use with sockets that the client owns.
    pub(crate) sessions: SessionFactory,
    /// Keeps the context that was built for the check alive until the first use.
    pub(crate) _checked: Arc<tls::Context>,
}

fn unknown_context(number: u64) -> Failure {
    Failure::new(ErrorCode::Invalid, format!("context {number} is not one of this connection's"))
}
