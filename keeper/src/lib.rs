//! The process that holds private keys and signs handshakes.
//!
//! It gets its sockets when it starts and opens no files. Key files arrive as descriptors over the admin socket. Each
//! front has its own socket and reaches only its own identities. The keeper signs only handshake messages of TLS
//! ([`handshake_message`]). It never reads the network, and has no TOML parser, no tokio and no self-describing
//! decoder. No other process can read the memory of libcrypto, which contains every key (`arena`).

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod arena;
#[allow(unsafe_code)]
mod crypto;
mod identities;
mod limits;
mod lockdown;
mod log;
mod policy;
mod serve;

pub use arena::ArenaError;
pub use identities::identity::examine;
pub use policy::{handshake_message, scheme};
pub use serve::inherited_socket::{InheritedSocket, InheritedSocketError, Purpose};
pub use serve::signers::SignersError;

#[cfg(all(feature = "without-arena", not(debug_assertions)))]
compile_error!("a keeper without the arena is for tests of the key scanner alone");

use arena::Kind;
use luassl_keeper_ipc::sd_notify::SdNotify;
use luassl_sandbox::SandboxError;
use luassl_sandbox::isolation::{self, Isolation};
use luassl_sandbox::user::User;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

/// The reason why the keeper does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command line is not valid.
    #[error(
        "the only options are --user UID:GID, neither of them 0, --isolation root or user-namespace, and --log-format text or journal"
    )]
    Arguments,
    /// There is no suitable memory for keys.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// libcrypto does not start.
    #[error("libcrypto cannot be initialised: {0}")]
    Crypto(#[from] crypto::CryptoError),
    /// The process cannot be restricted.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The inherited sockets are not usable.
    #[error(transparent)]
    Sockets(#[from] InheritedSocketError),
    /// Without an admin socket, no keys can be pushed.
    #[error("no socket is named admin, so this keeper could not receive any keys")]
    NoAdmin,
    /// The signing threads cannot be started.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// Runs `luassl-keeper`.
#[must_use]
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::warning(error);
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), StartError> {
    take_memory()?;
    let options = Options::read(std::env::args().skip(1))?;
    log::start(options.format);
    arena::kind().into_iter().filter_map(Kind::warning).for_each(log::warning);
    // Both functions read files.
    let start = Start { cores: cores(), sd_notify: sd_notify() };
    if let Some(isolation) = options.isolation {
        isolation::enter(isolation, None)?;
    }
    if let Some(user) = options.user {
        luassl_sandbox::user::change(user)?;
    }
    luassl_sandbox::close_to_others()?;
    crypto::start()?;
    raise_descriptor_limit();
    let sockets = serve::inherited_socket::from_environment()?;
    lockdown::lock_down()?;
    start.serve(sockets)
}

/// The command-line options.
struct Options {
    /// The user to run as.
    user: Option<User>,
    /// How to leave the file system and the network.
    isolation: Option<Isolation>,
    format: log::Format,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, StartError> {
        let mut options = Self { user: None, isolation: None, format: log::Format::Text };
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or(StartError::Arguments)?;
            match option.as_str() {
                "--user" => options.user = Some(value.parse().map_err(|_| StartError::Arguments)?),
                "--isolation" => {
                    options.isolation = Some(value.parse().map_err(|_| StartError::Arguments)?);
                }
                "--log-format" => options.format = value.parse().map_err(|()| StartError::Arguments)?,
                _ => return Err(StartError::Arguments),
            }
        }
        Ok(options)
    }
}

/// Returns the service manager to notify.
fn sd_notify() -> Option<SdNotify> {
    let connected = SdNotify::from_environment();
    connected
        .inspect_err(|error| log::warning(format_args!("NOTIFY_SOCKET cannot be used: {error}")))
        .ok()
        .flatten()
}

/// Takes the memory. Must run first: libcrypto must not have allocated memory before it.
fn take_memory() -> Result<(), ArenaError> {
    if cfg!(feature = "without-arena") {
        return Ok(());
    }
    arena::start()
}

/// Serves the sockets. Returns when the last inherited admin connection has ended, which means that the supervisor has
/// ended. With a listening admin socket, it never returns.
///
/// # Errors
/// [`StartError`] if the keeper cannot start to serve.
pub fn serve(sockets: Vec<InheritedSocket>) -> Result<(), StartError> {
    Start { cores: cores(), sd_notify: None }.serve(sockets)
}

/// The values that must be read before files become inaccessible.
struct Start {
    cores: usize,
    sd_notify: Option<SdNotify>,
}

impl Start {
    fn serve(self, sockets: Vec<InheritedSocket>) -> Result<(), StartError> {
        let registry = Arc::new(identities::registry::Registry::new());
        let signers = serve::signers::Signers::start(self.cores)?;
        let is_admin = |socket: &InheritedSocket| socket.purpose == Purpose::Admin;
        let (admins, fronts): (Vec<_>, Vec<_>) = sockets.into_iter().partition(is_admin);
        if admins.is_empty() {
            return Err(StartError::NoAdmin);
        }
        for socket in fronts {
            let (registry, signers) = (Arc::clone(&registry), Arc::clone(&signers));
            spawn(move || serve_front(&registry, &signers, socket, self.cores))?;
        }
        let counted = Arc::clone(&registry);
        spawn(move || serve::report::run(&counted))?;
        let aging = Arc::clone(&registry);
        spawn(move || aging.drop_former())?;
        let sd_notify = Arc::new(self.sd_notify);
        let serve_admin = |socket| {
            let (registry, signers) = (Arc::clone(&registry), Arc::clone(&signers));
            let sd_notify = Arc::clone(&sd_notify);
            spawn(move || serve_admin(&registry, &signers, &socket, Option::as_ref(&sd_notify)))
        };
        let admins = admins.into_iter().map(serve_admin).collect::<Result<Vec<_>, _>>()?;
        log::told(Option::as_ref(&sd_notify).map(SdNotify::ready));
        for admin in admins {
            // A thread that panicked has already reported it.
            let _ = admin.join();
        }
        Ok(())
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn serve_front(
    registry: &Arc<identities::registry::Registry>,
    signers: &Arc<serve::signers::Signers>,
    socket: InheritedSocket,
    cores: usize,
) {
    let Purpose::Front(name) = &socket.purpose else { return };
    let front = serve::front::Front::new(name, registry, signers, cores);
    if socket.listening { front.listen(&socket.socket) } else { front.serve(socket.socket) }
}

fn serve_admin(
    registry: &identities::registry::Registry,
    signers: &serve::signers::Signers,
    socket: &InheritedSocket,
    sd_notify: Option<&SdNotify>,
) {
    if socket.listening {
        serve::admin::listen(registry, signers, &socket.socket, sd_notify);
    } else {
        serve::admin::serve(registry, signers, &socket.socket, None, sd_notify);
    }
}

fn spawn(serve: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, StartError> {
    thread::Builder::new().spawn(serve).map_err(StartError::Thread)
}

/// Raises the soft limit on descriptors to the hard limit, because fronts may have more connections than the usual soft
/// limit. The operator sets the hard limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::warning(format_args!("the limit on open descriptors cannot be raised: {error}"));
    }
}
