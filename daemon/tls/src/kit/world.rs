//! Short constructors for contexts: identities, trusts and blobs, all in memory.

use crate::identity::{IdentitySource, PublicIdentity};
use crate::kit::pipe::{Outcome, shake};
use crate::kit::pki::Authority;
use crate::{Context, ContextSource, Floors, Ledger, Resumption, TicketKeys, TrustStores, may_sign};
use luassl_keeper_ipc::front::{EpochKey, Tickets};
use luassl_protocol::{ContextSpec, Digest, Failure, ProtocolVersion, Role};
use luassl_settings::TrustSettings;
use openssl::sha::sha256;
use parking_lot::Mutex;
use serde_bytes::{ByteArray, ByteBuf};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything that a context can refer to.
pub struct World {
    pub identities: Arc<Identities>,
    pub trusts: Arc<TrustStores>,
    pub tickets: Arc<TicketKeys>,
    pub resumption: Arc<Resumption>,
    settings: Mutex<BTreeMap<String, TrustSettings>>,
    blobs: Mutex<HashMap<Digest, Arc<[u8]>>>,
    /// The ledger that contexts are charged to.
    pub ledger: Mutex<Option<Arc<dyn Ledger>>>,
    /// The trusts that the grant accepts.
    pub accepted: Mutex<Option<Arc<[String]>>>,
}

/// The identities of a world.
#[derive(Default)]
pub struct Identities {
    by_name: Mutex<HashMap<String, Arc<PublicIdentity>>>,
    epoch: AtomicU64,
}

impl IdentitySource for Identities {
    fn current(&self, name: &str) -> Option<Arc<PublicIdentity>> {
        self.by_name.lock().get(name).cloned()
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }
}

impl Identities {
    /// Adds an identity, or a new generation of one.
    pub fn put(&self, identity: Arc<PublicIdentity>) {
        self.by_name.lock().insert(identity.name.clone(), identity);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    pub fn remove(&self, name: &str) {
        self.by_name.lock().remove(name);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// An epoch that does not end while a test runs, in seconds.
const EPOCH: u32 = 1_000_000_000;
/// The time in which sessions can be resumed, in seconds.
pub const LIFETIME: u32 = 3600;

/// Floors that demand nothing.
pub const FREE: Floors = Floors {
    minimum_protocol: ProtocolVersion::Tls12,
    verify_required: false,
    rsa_key_exchange: false,
    dhe: true,
    key_log: false,
};

impl World {
    /// Returns a world with the test root as the system's trust. Allows this thread to sign.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        may_sign(true);
        let tickets = Arc::<TicketKeys>::default();
        let world = Self {
            identities: Arc::default(),
            trusts: Arc::default(),
            resumption: Arc::new(Resumption::new(Arc::clone(&tickets))),
            tickets,
            settings: Mutex::default(),
            blobs: Mutex::default(),
            ledger: Mutex::default(),
            accepted: Mutex::default(),
        };
        world.trust("system", &Authority::root().pem(), &[]);
        world.ticket_keys([1, 2, 3]);
        world.resumption.configure(LIFETIME, 100, 1000);
        world
    }

    /// Sets the ticket keys as the keeper sends them: keys of three epochs that do not end while a test runs.
    pub fn ticket_keys(&self, keys: [u8; 3]) {
        let keys = keys.map(|byte| [byte; 32]);
        let [previous, current, next] = &keys;
        let keys = [previous, current, next].map(EpochKey);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let number = now.as_secs() / u64::from(EPOCH);
        self.tickets.put(&Tickets { length: EPOCH, number, keys });
    }

    /// Returns a world with some identities.
    pub fn with(identities: impl IntoIterator<Item = Arc<PublicIdentity>>) -> Self {
        let world = Self::new();
        identities.into_iter().for_each(|identity| world.identities.put(identity));
        world
    }

    /// Declares or replaces a trust.
    pub fn trust(&self, name: &str, certificates: &[u8], crls: &[u8]) {
        let list = |pem: &[u8]| if pem.is_empty() { vec![] } else { vec![ByteBuf::from(pem.to_vec())] };
        let settings = TrustSettings { certificates: list(certificates), crls: list(crls) };
        let mut all = self.settings.lock();
        all.insert(name.to_owned(), settings);
        assert_eq!(self.trusts.update(&all), [] as [String; 0]);
    }

    /// Stores a blob and returns its digest.
    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = ByteArray::new(sha256(bytes));
        self.blobs.lock().insert(digest, bytes.into());
        digest
    }

    pub fn context_with(&self, spec: &ContextSpec, floors: Floors) -> Result<Context, Failure> {
        self.context_of("owner", spec, floors)
    }

    pub fn context_of(&self, owner: &str, spec: &ContextSpec, floors: Floors) -> Result<Context, Failure> {
        let blobs = self.blobs.lock().clone();
        let (spec, owner) = (spec.clone(), owner.into());
        let (ledger, trusts) = (self.ledger.lock().clone(), self.accepted.lock().clone());
        let source = ContextSource { spec, blobs, floors, owner, recreated: false, ledger, trusts };
        let (trusts, resumption) = (Arc::clone(&self.trusts), Arc::clone(&self.resumption));
        Context::new(source, self.identities.clone(), trusts, resumption)
    }

    /// Creates a context as for a client that had it on another control connection.
    pub fn context_again(&self, spec: &ContextSpec) -> Result<Context, Failure> {
        let blobs = self.blobs.lock().clone();
        let (spec, owner) = (spec.clone(), "owner".into());
        let (ledger, trusts) = (None, None);
        let source = ContextSource { spec, blobs, floors: FREE, owner, recreated: true, ledger, trusts };
        let (trusts, resumption) = (Arc::clone(&self.trusts), Arc::clone(&self.resumption));
        Context::new(source, self.identities.clone(), trusts, resumption)
    }

    pub fn context(&self, spec: &ContextSpec) -> Context {
        self.context_with(spec, FREE).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Returns the reason why a context cannot be created.
    pub fn refusal(&self, spec: &ContextSpec) -> Failure {
        match self.context_with(spec, FREE) {
            Ok(_) => panic!("the context was made"),
            Err(failure) => failure,
        }
    }
}

/// Returns the description of a context for an identity.
pub fn of(identity: &str) -> ContextSpec {
    ContextSpec { identity: Some(identity.to_owned()), ..ContextSpec::default() }
}

/// Runs a handshake between two contexts. The client expects `host`.
pub fn meet(server: &Context, client: &Context, host: Option<&str>) -> Outcome {
    server.renew();
    client.renew();
    let server = server.session(Role::Server, None, None).unwrap_or_else(|failure| panic!("{failure}"));
    let client = client.session(Role::Client, host, None).unwrap_or_else(|failure| panic!("{failure}"));
    shake(server, client)
}
