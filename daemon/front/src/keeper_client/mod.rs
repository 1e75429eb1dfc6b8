//! The front's link to the keeper: the list of identities, and signatures with their keys.
//!
//! One thread holds the subscription and keeps the identities up to date. Each thread that signs has its own socket, so
//! signatures do not wait for each other. All of them share the health of the keeper. When the keeper is lost, one
//! deadline begins for all calls together. A call after the deadline fails at once, and the subscription's thread
//! detects when the keeper is back.

mod call;
mod health;
mod identities;
mod shared;
mod subscription;

use health::Health;
use luassl_tls::TicketKeys;
use luassl_tls::identity::{IdentitySource, KeyId, PreMaster, SignError, Signer};
use shared::Shared;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The link of a front to its keeper. Dropping it ends its thread.
pub struct KeeperLink {
    shared: Arc<Shared>,
}

impl KeeperLink {
    /// Starts the subscription to the keeper's socket at `path`. The keeper need not be running yet. Calls wait for a
    /// lost keeper until `deadline` after the moment at which it was lost.
    ///
    /// # Errors
    /// Returns the error of the system if no thread or descriptor is left.
    pub fn start(path: PathBuf, deadline: Duration) -> io::Result<Arc<Self>> {
        static LINKS: AtomicU64 = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            number: LINKS.fetch_add(1, Ordering::Relaxed),
            path,
            health: Health::new(deadline)?,
            identities: Arc::default(),
            tickets: Arc::default(),
        });
        let subscriber = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("keeper-link".to_owned());
        thread.spawn(move || subscription::run(&subscriber))?;
        Ok(Arc::new(Self { shared }))
    }

    /// Sets the deadline. It also applies to calls in progress.
    pub fn set_deadline(&self, deadline: Duration) {
        self.shared.health.set_deadline(deadline);
    }

    /// Returns the identities of this front, as the keeper last sent them. They are kept while the keeper is
    /// unreachable.
    #[must_use]
    pub fn identities(&self) -> Arc<dyn IdentitySource> {
        Arc::clone(&self.shared.identities) as Arc<_>
    }

    /// Returns the keys for session tickets, as the keeper last sent them.
    #[must_use]
    pub fn tickets(&self) -> Arc<TicketKeys> {
        Arc::clone(&self.shared.tickets)
    }

    /// Returns whether the keeper has sent all identities at least once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.shared.identities.is_synced()
    }

    /// Waits until the keeper has sent all identities once.
    pub async fn synced(&self) {
        self.shared.identities.synced().await;
    }
}

impl Signer for KeeperLink {
    fn sign(&self, name: &str, key_id: KeyId, scheme: u16, message: &[u8]) -> Result<Vec<u8>, SignError> {
        call::sign(&self.shared, name, key_id, scheme, message)
    }

    fn decrypt(
        &self,
        name: &str,
        key_id: KeyId,
        version: u16,
        ciphertext: &[u8],
    ) -> Result<PreMaster, SignError> {
        call::decrypt(&self.shared, name, key_id, version, ciphertext)
    }
}

impl Drop for KeeperLink {
    fn drop(&mut self) {
        self.shared.health.end();
    }
}
