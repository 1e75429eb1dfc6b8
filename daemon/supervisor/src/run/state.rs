//! What the supervisor serves: built whole, then swapped.

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

/// The keeper's sockets: their fronts alone connect to them.
const KEEPER_MODE: u32 = 0o600;
/// Sockets for `luasslctl status`: for the user who started the supervisor, and root.
const STATUS_MODE: u32 = 0o600;
/// What follows the control socket's path in theirs; then `-NAME` for every front but the default one.
pub const STATUS_SUFFIX: &str = ".admin";
/// Mode of the directory of the sockets, where the supervisor creates it.
const DIRECTORY_MODE: u32 = 0o755;

/// A configuration in force, with everything that was opened for it.
#[derive(Debug)]
pub(super) struct State {
    /// Counts the configurations of this supervisor, from 1.
    pub(super) serial: u64,
    pub(super) config: Config,
    pub(super) trusts: Trusts,
    pub(super) listeners: Listeners,
}

impl State {
    /// The first state, or the next: what `former` has open stays open.
    ///
    /// # Errors
    /// A finding where a listener cannot be bound.
    pub(super) fn build(config: Config, former: Option<&Self>) -> Result<(Self, Vec<Finding>), Finding> {
        let none = Listeners::new();
        let listeners = listeners(&config, former.map_or(&none, |former| &former.listeners))?;
        let (trusts, findings) = read_trusts(&config, former.map(|former| &former.trusts));
        let serial = former.map_or(1, |former| former.serial + 1);
        Ok((Self { serial, config, trusts, listeners }, findings))
    }
}

/// The Unix sockets: bound once, for the supervisor's life.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) control: UnixSocket,
    pub(super) named: BTreeMap<String, UnixSocket>,
    /// The keeper's, by front.
    pub(super) keeper: BTreeMap<String, UnixSocket>,
    /// On which the fronts tell their status, by front.
    pub(super) status: BTreeMap<String, UnixSocket>,
}

impl Sockets {
    /// # Errors
    /// A finding for the first that cannot be bound.
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

/// Where the control socket goes: as configured, else where the module looks for it. Then its directory is ours.
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

/// Everybody may pass through to the control socket, whatever the umask; the other sockets have modes of their own.
fn make_directory(directory: &Path) -> Result<(), Finding> {
    // Made with its mode: nothing is changed by a path where somebody might put a link.
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

/// A front's socket beside the control socket.
fn beside(control: &Path, suffix: &str, name: &str) -> PathBuf {
    let mut path = control.as_os_str().to_owned();
    path.push(suffix);
    if name != DEFAULT_FRONT {
        path.push(format!("-{name}"));
    }
    path.into()
}

/// Warnings about changes that need a restart; an error where the reload cannot be applied at all.
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
        // Positive control: a front that sees everybody takes it.
        assert_eq!(reloadable(&old, &new, Isolations::default()), Ok(vec![]));
        let fronts = Some(Isolation::UserNamespace);
        let refused = reloadable(&old, &new, Isolations { keeper: None, fronts }).expect_err("refused");
        assert!(refused.cause.starts_with("grants now name users or groups other than those"));
    }
}
