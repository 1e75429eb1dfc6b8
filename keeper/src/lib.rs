//! The process that holds private keys and signs handshakes.
//!
//! It gets its sockets when it starts and opens nothing: key files come as descriptors over the admin socket, each
//! front has a socket of its own and reaches its own identities only, and what is signed must be a handshake message
//! of TLS ([`structure`]). It never reads the network, and has neither TOML, tokio nor a self-describing decoder.

#![deny(unsafe_code)]

mod admin;
mod chain;
#[allow(unsafe_code)]
mod crypto;
mod front;
mod identity;
mod intake;
mod limits;
mod log;
mod permits;
mod registry;
pub mod scheme;
mod sign;
mod socket;
pub mod structure;
mod tickets;
mod wire;

pub use intake::{Intake, IntakeError, Purpose};

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

/// Why the keeper does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// libcrypto does not start.
    #[error("libcrypto does not start: {0}")]
    Crypto(#[from] crypto::CryptoError),
    /// Core dumps and debuggers cannot be kept out.
    #[error("the process cannot be closed to debuggers and core dumps: {0}")]
    Harden(Errno),
    /// The sockets are not what they should be.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// Nobody could push.
    #[error("no socket is called admin, so nobody could give keys to this keeper")]
    NoAdmin,
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// What `luassl-keeper` does, to its end.
#[must_use]
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(error);
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), StartError> {
    crypto::start()?;
    harden().map_err(StartError::Harden)?;
    raise_descriptor_limit();
    serve(intake::from_environment()?)
}

/// Serves the sockets. Returns when the last admin connection that was passed as such has ended, which means that
/// the supervisor has; with a listening admin socket, never.
///
/// # Errors
/// [`StartError`] before anything was served.
pub fn serve(sockets: Vec<Intake>) -> Result<(), StartError> {
    let registry = Arc::new(registry::Registry::new());
    let is_admin = |intake: &Intake| intake.purpose == Purpose::Admin;
    let (admins, fronts): (Vec<_>, Vec<_>) = sockets.into_iter().partition(is_admin);
    if admins.is_empty() {
        return Err(StartError::NoAdmin);
    }
    for intake in fronts {
        let registry = Arc::clone(&registry);
        spawn(move || serve_front(&registry, intake))?;
    }
    let serve_admin = |intake| {
        let registry = Arc::clone(&registry);
        spawn(move || serve_admin(&registry, &intake))
    };
    let admins = admins.into_iter().map(serve_admin).collect::<Result<Vec<_>, _>>()?;
    intake::notify_ready();
    for admin in admins {
        // A thread that panicked has said so itself.
        let _ = admin.join();
    }
    Ok(())
}

fn serve_front(registry: &Arc<registry::Registry>, intake: Intake) {
    let Purpose::Front(name) = &intake.purpose else { return };
    let front = front::Front::new(name, registry);
    if intake.listening { front.listen(&intake.socket) } else { front.serve(intake.socket) }
}

fn serve_admin(registry: &registry::Registry, intake: &Intake) {
    if intake.listening {
        admin::listen(registry, &intake.socket);
    } else {
        admin::serve(registry, &intake.socket, None);
    }
}

fn spawn(serve: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, StartError> {
    thread::Builder::new().spawn(serve).map_err(StartError::Thread)
}

/// No core dumps; no ptrace, no /proc/PID/mem and no pidfd_getfd for processes of the same user.
fn harden() -> Result<(), Errno> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
}

/// Fronts may have more connections than the usual soft limit; the hard one is the operator's.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::line(format_args!("the limit on open descriptors cannot be raised: {error}"));
    }
}
