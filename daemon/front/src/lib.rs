//! The front: control sockets, grants, contexts and connections. It reads the network and holds no key.
//!
//! It opens no file, connects only to its keeper's socket and binds no address. The sockets that it needs are passed to
//! it.
#![deny(unsafe_code)]

mod accept;
mod activation;
mod admin;
mod allocator;
mod authorization;
mod context;
mod control;
mod handshake;
#[cfg(feature = "hostile")]
mod hostile;
pub mod keeper_client;
mod lockdown;
mod lockstep;
mod parsing;
mod runtime;
mod services;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod withdrawal;

use crate::keeper_client::KeeperLink;
use admin::Door;
use luassl_keeper_ipc::sd_notify::SdNotify;
use luassl_sandbox::{isolation::Isolation, user::User};
use luassl_settings::Limits;
use luassl_tls as tls;
use services::Services;
use std::{io, os::fd::OwnedFd, path::PathBuf, sync::Arc};

/// The options with which `luassld front` is started.
#[derive(Debug)]
pub struct FrontOptions {
    /// The front's name, by which the keeper and the supervisor refer to it.
    pub name: String,
    /// The keeper's socket for this front.
    pub keeper: PathBuf,
    /// The user to switch to, if root starts the front.
    pub user: Option<User>,
    /// How to leave the file system and the network, if `luassld run` starts the front.
    pub isolation: Option<Isolation>,
    /// The passed sockets, by name: `admin`, `status`, `control`, `socket.NAME`, `listener.NAME`.
    pub sockets: Vec<(String, OwnedFd)>,
}

/// Why a front could not start.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// A system call failed.
    #[error("the front cannot start: {0}")]
    System(#[from] io::Error),
    /// The front cannot give up privileges that it does not need.
    #[error("the front does not start: {0}")]
    Sandbox(#[from] luassl_sandbox::SandboxError),
    /// OpenSSL cannot be used.
    #[error("the front cannot start: {0}")]
    Tls(#[from] tls::TlsError),
    /// A socket without which the front cannot be reached is missing.
    #[error("the front was given no socket named \"{0}\" (LISTEN_FDNAMES)")]
    MissingSocket(&'static str),
}

/// Runs a front until SIGTERM or until its supervisor has gone.
///
/// # Errors
/// Returns [`FrontError`] if the front cannot start.
pub fn run(options: FrontOptions) -> Result<(), FrontError> {
    tls::wipe_what_is_freed()?;
    // This reads files that may not be reachable below.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    allocator::bound_arenas(cores);
    let keeper = lockdown::close(options.isolation, options.user, options.keeper)?;
    raise_descriptor_limit();
    runtime::interrupt::install()?;
    let notice = SdNotify::from_environment()?;
    // No file can be opened after this call. Threads inherit the restriction.
    lockdown::lock_down()?;
    #[cfg(feature = "hostile")]
    hostile::act(&options.name, &keeper);
    // The link's thread parses certificates.
    tls::prepare()?;
    let keeper = KeeperLink::start(keeper, Limits::default().keeper())?;
    tls::install(Arc::clone(&keeper) as Arc<_>)?;
    let services = Services::start(keeper, cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(services, notice, options.sockets))
}

async fn serve(
    services: Services,
    manager: Option<SdNotify>,
    sockets: Vec<(String, OwnedFd)>,
) -> Result<(), FrontError> {
    let authority = Arc::clone(&services.authority);
    let mut admin = None;
    let mut controls = 0;
    let mut listeners = Vec::new();
    for (name, socket) in sockets {
        if name == "admin" {
            admin = Some(socket);
        } else if name == "status" {
            tokio::spawn(status::serve(Arc::clone(&authority), Arc::clone(&services.runtime), socket));
        } else if let Some(listener) = name.strip_prefix("listener.") {
            listeners.push((listener.to_owned(), socket));
        } else if name == "control" || name.starts_with("socket.") {
            controls += 1;
            let name = name.strip_prefix("socket.").unwrap_or(&name);
            tokio::spawn(serve_control(services.clone(), name.into(), socket));
        } else {
            tracing::warn!("a socket named \"{name}\" came along, and nothing is known of it");
        }
    }
    if controls == 0 {
        return Err(FrontError::MissingSocket("control"));
    }
    services.acceptors.keep(listeners);
    let admin = admin.ok_or(FrontError::MissingSocket("admin"))?;
    let keeps_log = Arc::clone(&authority);
    tokio::spawn(async move { keeps_log.keep_log().await });
    let admin = admin::start(Door::new(services, manager), admin)?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        ended = admin => match ended {
            Ok(outcome) => Ok(outcome?),
            // The thread of the admin socket has ended, so no further push is possible.
            Err(_) => Err(io::Error::other("the admin socket is out of service").into()),
        },
    };
    authority.counters.tell();
    outcome
}

async fn serve_control(services: Services, name: Arc<str>, socket: OwnedFd) {
    if let Err(error) = control::serve(services, Arc::clone(&name), socket).await {
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
