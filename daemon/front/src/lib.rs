//! The front: control sockets, grants, contexts and connections. It reads the network and holds no key.
//!
//! It opens no file, connects to nothing but its keeper's socket and binds nothing: what it needs is passed to it.
#![deny(unsafe_code)]

mod admin;
mod allocator;
mod audit;
mod buffers;
mod closing;
mod connection;
mod context;
mod control;
mod counters;
mod descriptors;
mod dispatcher;
mod half_open;
mod handshake;
#[cfg(feature = "hostile")]
mod hostile;
mod interrupt;
pub mod keeper_client;
mod listener;
mod lockdown;
mod lockstep;
mod operations;
mod owner;
mod parsing;
mod peer;
mod plaintext_socket;
mod policy;
mod pump;
mod quota;
mod readiness;
mod runtime;
mod sockets;
mod standing;
mod status;
mod subscriber;
mod tcp;
#[cfg(test)]
mod tests;
mod transport;
mod turns;
mod workers;

use crate::keeper_client::KeeperLink;
use context::Principal;
use luassl_keeper_ipc::sd_notify::SdNotify;
use luassl_sandbox::{isolation::Isolation, user::User};
use luassl_settings::{Limits, PushReply, Settings};
use luassl_tls as tls;
use luassl_tls::identity::IdentitySource;
use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::watch;

/// What `luassld front` is started with.
#[derive(Debug)]
pub struct FrontOptions {
    /// The front's name, which the keeper's and the supervisor's words go by.
    pub name: String,
    /// The keeper's socket for this front.
    pub keeper: PathBuf,
    /// The user to become, where root starts it.
    pub user: Option<User>,
    /// How to leave the file system and the network, where `luassld run` starts it.
    pub isolation: Option<Isolation>,
    /// The sockets that came along, by name: `admin`, `status`, `control`, `socket.NAME`,
    /// `listener.NAME`.
    pub sockets: Vec<(String, OwnedFd)>,
}

/// Why a front could not start.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// A system call failed.
    #[error("the front cannot start: {0}")]
    System(#[from] io::Error),
    /// It cannot give up what it does not need.
    #[error("the front does not start: {0}")]
    Sandbox(#[from] luassl_sandbox::SandboxError),
    /// OpenSSL cannot be used.
    #[error("the front cannot start: {0}")]
    Tls(#[from] tls::TlsError),
    /// Nobody could ever talk to it.
    #[error("the front was given no socket named \"{0}\" (LISTEN_FDNAMES)")]
    MissingSocket(&'static str),
}

/// The configuration in force, built whole and then swapped in.
struct Active {
    generation: u64,
    settings: Settings,
    identities: Arc<dyn IdentitySource>,
    listeners: HashMap<String, Arc<tcp::Tcp>>,
}

/// A running front; shared by all its threads.
struct Front {
    active: RwLock<Arc<Active>>,
    pushed: watch::Sender<bool>,
    trusts: Arc<tls::TrustStores>,
    resumption: Arc<tls::Resumption>,
    keeper: Arc<KeeperLink>,
    quotas: quota::Quotas,
    turns: turns::Turns,
    sources: half_open::Sources,
    runtime: Arc<runtime::ConnectionRuntime>,
    contexts: context::Contexts,
    parsing: parsing::Parsing,
    acceptors: listener::Acceptors,
    counters: Arc<counters::Counters>,
    audit: audit::Audit,
    notice: Option<SdNotify>,
}

/// How often a request that waits for the keeper's identities looks again.
const SYNC_POLL: Duration = Duration::from_millis(10);

/// Runs a front until SIGTERM or until its supervisor has gone.
///
/// # Errors
/// [`FrontError`] when it cannot start.
pub fn run(options: FrontOptions) -> Result<(), FrontError> {
    tls::wipe_what_is_freed()?;
    // Asked of files, which may be out of reach below.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    allocator::bound_arenas(cores);
    let keeper = lockdown::close(options.isolation, options.user, options.keeper)?;
    raise_descriptor_limit();
    interrupt::install()?;
    let notice = SdNotify::from_environment()?;
    // From here on no file can be opened; threads inherit that.
    lockdown::lock_down()?;
    #[cfg(feature = "hostile")]
    hostile::act(&options.name, &keeper);
    // The link's thread parses certificates.
    tls::prepare()?;
    let keeper = KeeperLink::start(keeper, Limits::default().keeper())?;
    tls::install(Arc::clone(&keeper) as Arc<_>)?;
    let counters = Arc::<counters::Counters>::default();
    let front = Arc::new(Front {
        active: RwLock::new(Arc::new(Active {
            generation: 0,
            settings: Settings::default(),
            identities: keeper.identities(),
            listeners: HashMap::new(),
        })),
        pushed: watch::Sender::new(false),
        trusts: Arc::default(),
        resumption: Arc::new(tls::Resumption::new(keeper.tickets())),
        keeper,
        quotas: quota::Quotas::counted_by(Arc::clone(&counters)),
        turns: turns::Turns::default(),
        sources: half_open::Sources::default(),
        runtime: Arc::new(runtime::ConnectionRuntime::start(cores)?),
        contexts: context::Contexts::default(),
        parsing: parsing::Parsing::start()?,
        acceptors: listener::Acceptors::default(),
        counters,
        audit: audit::Audit::default(),
        notice,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(front, options.sockets))
}

async fn serve(front: Arc<Front>, sockets: Vec<(String, OwnedFd)>) -> Result<(), FrontError> {
    let mut admin = None;
    let mut controls = 0;
    let mut listeners = Vec::new();
    for (name, socket) in sockets {
        if name == "admin" {
            admin = Some(socket);
        } else if name == "status" {
            tokio::spawn(status::serve(Arc::clone(&front), socket));
        } else if let Some(listener) = name.strip_prefix("listener.") {
            listeners.push((listener.to_owned(), socket));
        } else if name == "control" || name.starts_with("socket.") {
            controls += 1;
            let name = name.strip_prefix("socket.").unwrap_or(&name);
            tokio::spawn(serve_control(Arc::clone(&front), name.into(), socket));
        } else {
            tracing::warn!("a socket named \"{name}\" came along, and nothing is known of it");
        }
    }
    if controls == 0 {
        return Err(FrontError::MissingSocket("control"));
    }
    front.keep_listeners(listeners);
    let admin = admin.ok_or(FrontError::MissingSocket("admin"))?;
    tokio::spawn(audit::catch_up(Arc::clone(&front)));
    let admin = admin::start(Arc::clone(&front), admin)?;
    admin::told(front.notice.as_ref().map(SdNotify::ready));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        ended = admin => match ended {
            Ok(outcome) => Ok(outcome?),
            // Its thread has gone, and nobody could push any more.
            Err(_) => Err(io::Error::other("the admin socket is out of service").into()),
        },
    };
    front.counters.tell();
    outcome
}

async fn serve_control(front: Arc<Front>, name: Arc<str>, socket: OwnedFd) {
    if let Err(error) = control::serve(front, Arc::clone(&name), socket).await {
        tracing::error!("control socket \"{name}\" is out of service: {error}");
    }
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!("the limit of open descriptors stays at {:?}: {error}", limit.current);
    }
}

impl Front {
    fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn limits(&self) -> Limits {
        self.active().settings.limits.clone()
    }

    /// Waits for the first push.
    async fn ready(&self) {
        let mut pushed = self.pushed.subscribe();
        // The sender lives as long as the front.
        let _ = pushed.wait_for(|pushed| *pushed).await;
    }

    /// Waits, up to the keeper's deadline, until the keeper has said what it holds.
    async fn identities_synced(&self) {
        let deadline = tokio::time::Instant::now() + self.limits().keeper();
        while !self.keeper.is_synced() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(SYNC_POLL).await;
        }
    }

    /// Keeps the listeners that came with the start, for the first push to find.
    fn keep_listeners(&self, listeners: Vec<(String, OwnedFd)>) {
        let mut slot = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let active = Active {
            generation: slot.generation,
            settings: slot.settings.clone(),
            identities: Arc::clone(&slot.identities),
            listeners: listeners
                .into_iter()
                .map(|(name, socket)| (name, Arc::new(tcp::Tcp::new(socket))))
                .collect(),
        };
        *slot = Arc::new(active);
    }

    /// Puts a pushed configuration in force; what is wrong with it is told, and the rest holds. What no grant allows any
    /// more is ended.
    fn activate(self: &Arc<Self>, settings: Settings, listeners: Vec<(String, OwnedFd)>) -> PushReply {
        // Parses, and takes its time: before anything is locked.
        let faults = self.trusts.update(&settings.trusts);
        // Builds the index of names.
        let _ = settings.declared("");
        self.keeper.set_deadline(settings.limits.keeper());
        let Limits { sessions_per_owner, sessions, .. } = settings.limits;
        self.resumption.configure(settings.session_lifetime_s, sessions_per_owner, sessions);
        let mut slot = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let mut sockets = slot.listeners.clone();
        sockets.extend(listeners.into_iter().map(|(name, socket)| (name, Arc::new(tcp::Tcp::new(socket)))));
        sockets.retain(|name, _| settings.listeners.contains(name));
        *slot = Arc::new(Active {
            generation: slot.generation + 1,
            settings,
            identities: self.keeper.identities(),
            listeners: sockets,
        });
        drop(slot);
        self.acceptors.follow(self);
        let warnings = self.end_what_is_withdrawn();
        self.pushed.send_replace(true);
        PushReply { faults, warnings }
    }

    /// How many connections a principal may have: the largest that its grants give, or the default.
    fn connection_bound(&self, principal: &Principal) -> u32 {
        let active = self.active();
        let default = active.settings.limits.connections_per_owner;
        policy::largest(&active.settings, principal.caller(), |grant| grant.max_connections, default)
    }

    /// Whether any grant is the principal's.
    ///
    /// # Errors
    /// `Refused` where none is; that is in the audit log then.
    fn granted(&self, principal: &Principal) -> Result<(), luassl_protocol::Failure> {
        if policy::has_grant(&self.active().settings, principal.caller()) {
            return Ok(());
        }
        let (denial, way) = (policy::Denial::NoGrant, policy::SocketSource::Context);
        self.counters.refused(&principal.owner, counters::Refusal::Denied(denial.word()));
        self.audit.refused(principal, &policy::Operation { identities: &[], role: None, way }, &denial);
        Err(denial.into_failure())
    }

    /// How many contexts a principal may have, likewise.
    fn context_bound(&self, principal: &Principal) -> u32 {
        let active = self.active();
        let default = active.settings.limits.contexts_per_owner;
        policy::largest(&active.settings, principal.caller(), |grant| grant.max_contexts, default)
    }
}
