//! The state that the supervisor serves. A new state is built completely, then replaces the previous one.

use crate::config::{Config, DEFAULT_FRONT, Finding, Front, SocketFile};
use crate::push::{Trusts, read_trusts};
use crate::run::bind::{Listeners, UnixSocket, listeners};
use crate::run::isolation::{Isolation, Isolations, needs_others};
use crate::run::users::Users;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::SocketType;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The mode of the keeper's sockets. Only their fronts connect to them.
const KEEPER_MODE: u32 = 0o600;
/// The mode of the sockets for `luasslctl status`. The user who started the supervisor and root may connect.
const STATUS_MODE: u32 = 0o600;
/// The suffix that is added to the control socket's path for these sockets. For a front other than the
/// default one, `-NAME` is added too.
pub const STATUS_SUFFIX: &str = ".admin";
/// The mode of the directory of the sockets if the supervisor creates it.
const DIRECTORY_MODE: u32 = 0o755;

/// A configuration in force, with everything that was opened for it.
#[derive(Debug)]
pub(super) struct State {
    /// The number of the configuration in this supervisor, from 1.
    pub(super) serial: u64,
    pub(super) config: Config,
    pub(super) trusts: Trusts,
    pub(super) listeners: Listeners,
}

impl State {
    /// Builds the first state or the next one. Open sockets of `former` stay open.
    ///
    /// # Errors
    /// Returns a finding if a listener cannot be bound.
    pub(super) fn build(config: Config, former: Option<&Self>) -> Result<(Self, Vec<Finding>), Finding> {
        let none = Listeners::new();
        let listeners = listeners(&config, former.map_or(&none, |former| &former.listeners))?;
        let (trusts, findings) = read_trusts(&config, former.map(|former| &former.trusts));
        let serial = former.map_or(1, |former| former.serial + 1);
        Ok((Self { serial, config, trusts, listeners }, findings))
    }
}

/// The Unix sockets. They are bound once, for the lifetime of the supervisor.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) control: UnixSocket,
    pub(super) named: BTreeMap<String, UnixSocket>,
    /// The keeper's sockets, by front.
    pub(super) keeper: BTreeMap<String, UnixSocket>,
    /// The sockets on which the fronts report their status, by front.
    pub(super) status: BTreeMap<String, UnixSocket>,
}

impl Sockets {
    /// # Errors
    /// Returns a finding for the first socket that cannot be bound.
    pub(super) fn bind(config: &Config, users: &Users) -> Result<Self, Finding> {
        let path = control_path(&config.control)?;
        let control = UnixSocket::bind(&path, &config.control, SocketType::STREAM)?;
        let named = config
            .sockets
            .iter()
            .map(|(name, file)| {
                let path = file.path.as_deref().ok_or_else(|| {
                    Finding::error(None, format!("socket `{name}` has no path")).hint(format!(
                        "`luassld run` creates the socket itself: set `path` in [socket.{name}]"
                    ))
                })?;
                Ok((name.clone(), UnixSocket::bind(path, file, SocketType::STREAM)?))
            })
            .collect::<Result<_, Finding>>()?;
        let keeper = config
            .fronts
            .iter()
            .map(|(name, front)| {
                let path = keeper_path(&path, name, front);
                let file = SocketFile { mode: KEEPER_MODE, ..SocketFile::default() };
                let socket = UnixSocket::bind(&path, &file, SocketType::SEQPACKET)?;
                users.fronts.get(name).map_or(Ok(()), |user| socket.give_to(*user))?;
                Ok((name.clone(), socket))
            })
            .collect::<Result<_, Finding>>()?;
        let status = config
            .fronts
            .keys()
            .map(|name| {
                let file = SocketFile { mode: STATUS_MODE, ..SocketFile::default() };
                let path = beside(&path, STATUS_SUFFIX, name);
                Ok((name.clone(), UnixSocket::bind(&path, &file, SocketType::SEQPACKET)?))
            })
            .collect::<Result<_, Finding>>()?;
        Ok(Self { control, named, keeper, status })
    }
}

/// Returns the path of the control socket: the configured one, or else the one where the module looks for it.
/// In the latter case, creates its directory.
fn control_path(file: &SocketFile) -> Result<PathBuf, Finding> {
    if let Some(path) = &file.path {
        return Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    }
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/run")
    } else {
        std::env::var_os("XDG_RUNTIME_DIR").filter(|base| !base.is_empty()).map(PathBuf::from).ok_or_else(
            || {
                Finding::error(None, "the control socket has no path: XDG_RUNTIME_DIR is not set")
                    .hint("set one with --socket PATH")
            },
        )?
    };
    let directory = base.join("luassl");
    make_directory(&directory)?;
    Ok(directory.join("luassl.sock"))
}

/// Creates a directory that every user may pass through to the control socket, independent of the umask. The
/// other sockets have their own modes.
fn make_directory(directory: &Path) -> Result<(), Finding> {
    // The directory is created with its mode. A later change by path could follow a link that another user
    // put there.
    let former = rustix::process::umask(Mode::empty());
    let made = rustix::fs::mkdir(directory, Mode::from_raw_mode(DIRECTORY_MODE));
    rustix::process::umask(former);
    match made {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => {
            Err(Finding::error(None, format!("{} cannot be created: {error}", directory.display()))
                .hint("set another path with --socket PATH"))
        }
    }
}

fn keeper_path(control: &Path, name: &str, front: &Front) -> PathBuf {
    front.keeper_socket.clone().unwrap_or_else(|| beside(control, ".keeper", name))
}

/// Returns the path of a front's socket beside the control socket.
fn beside(control: &Path, suffix: &str, name: &str) -> PathBuf {
    let mut path = control.as_os_str().to_owned();
    path.push(suffix);
    if name != DEFAULT_FRONT {
        path.push(format!("-{name}"));
    }
    path.into()
}

/// Returns warnings about changes that need a restart, or an error if the reload cannot be applied.
pub(super) fn reloadable(
    old: &Config,
    new: &Config,
    isolations: Isolations,
) -> Result<Vec<Finding>, Finding> {
    if !old.fronts.keys().eq(new.fronts.keys()) {
        return Err(Finding::error(
            None,
            "the fronts have changed, and a reload can neither start nor stop a front",
        )
        .hint("restart luassld"));
    }
    if isolations.fronts == Some(Isolation::UserNamespace) && needs_others(new) {
        let cause = "grants now name users or groups other than those that luassld was started with, and its fronts cannot tell them apart";
        return Err(Finding::error(None, cause).hint("restart luassld"));
    }
    let keeper_sockets = |config: &Config| -> Vec<Option<PathBuf>> {
        config.fronts.values().map(|front| front.keeper_socket.clone()).collect()
    };
    let served = |config: &Config| -> Vec<_> {
        config.fronts.values().map(|front| (front.control, front.sockets.clone())).collect()
    };
    let users = |config: &Config| -> Vec<_> {
        config.fronts.values().map(|front| front.user).chain([config.keeper_user]).collect()
    };
    let changed = [
        ("the control socket", old.control != new.control),
        ("named control sockets", old.sockets != new.sockets || served(old) != served(new)),
        ("keeper sockets", keeper_sockets(old) != keeper_sockets(new)),
        ("users", users(old) != users(new)),
        ("the log", old.log != new.log),
    ];
    let warning = |what: &str| {
        Finding::warning(
            None,
            format!("{what} changed in the configuration, and changing this needs a restart"),
        )
        .hint("restart luassld")
    };
    Ok(changed.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| warning(what)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, load_text};

    fn config(text: &str) -> Config {
        load_text(Path::new("/x.toml"), text, &Request::default()).config.expect("a good configuration")
    }

    #[test]
    fn a_keeper_socket_lies_beside_the_control_socket() {
        let config = config("[front.default]\n[front.a]\n[front.b]\nkeeper_socket='/k'");
        let path = |name: &str| keeper_path(Path::new("/run/c.sock"), name, &config.fronts[name]);
        assert_eq!(path("default"), Path::new("/run/c.sock.keeper"));
        assert_eq!(path("a"), Path::new("/run/c.sock.keeper-a"));
        assert_eq!(path("b"), Path::new("/k"));
    }

    #[test]
    fn a_reload_says_what_it_leaves() {
        let old = config("[control]\nsocket='/a'");
        let none = Isolations::default();
        assert_eq!(reloadable(&old, &old, none), Ok(vec![]));
        let warnings = reloadable(&old, &config("[control]\nsocket='/b'"), none).expect("applied");
        assert_eq!(
            warnings[0].to_string(),
            "warning: the control socket changed in the configuration, and changing this needs a restart\n\
             hint: restart luassld"
        );
        let refused = reloadable(&old, &config("[front.default]\n[front.a]"), none).expect_err("refused");
        assert_eq!(refused.cause, "the fronts have changed, and a reload can neither start nor stop a front");
    }

    #[test]
    fn finding_24_a_reload_brings_no_grant_that_a_user_namespace_would_give_to_everybody() {
        let old = config("");
        let new = config("[[grant]]\nuser = 65534\nidentities = []");
        // Positive control: a front that sees all users accepts it.
        assert_eq!(reloadable(&old, &new, Isolations::default()), Ok(vec![]));
        let fronts = Some(Isolation::UserNamespace);
        let refused = reloadable(&old, &new, Isolations { keeper: None, fronts }).expect_err("refused");
        assert!(refused.cause.starts_with("grants now name users or groups other than those"));
    }
}
