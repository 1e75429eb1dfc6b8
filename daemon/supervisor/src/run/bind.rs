//! Sockets that the supervisor holds: control sockets and the keeper's sockets, bound to paths; listeners,
//! bound to addresses. They exist longer than the children that serve them.

use crate::config::{Config, Finding, Listener, Location, SocketFile};
use crate::run::lock::{self, Lock, LockError};
use luassl_sandbox::user::User;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The number of connections that wait to be accepted. The kernel reduces it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// The same for Unix sockets. A new client waits behind these connections, including those of clients that
/// have already gone. Beyond this number, connect(2) waits, in the order of the calls.
const UNIX_BACKLOG: i32 = 128;

/// A listening Unix socket. Dropping it removes its file.
#[derive(Debug)]
pub(super) struct UnixSocket {
    socket: OwnedFd,
    path: PathBuf,
    /// The file that was bound (O_PATH). It stays the same if the file at the path is replaced.
    file: OwnedFd,
    inode: (u64, u64),
}

impl UnixSocket {
    /// Binds `path`, with the mode and group of `file`. A stale socket file is replaced.
    ///
    /// # Errors
    /// Returns a finding for the operator.
    pub(super) fn bind(path: &Path, file: &SocketFile, kind: SocketType) -> Result<Self, Finding> {
        let fault = |what: &str, errno: Errno| {
            Finding::error(Location::file(path), format!("the socket cannot be {what}: {errno}"))
                .hint("choose another path, or start luassld with more privileges")
        };
        let _lock = lock(path)?;
        remove_stale(path, kind)?;
        let address = SocketAddrUnix::new(path).map_err(|errno| fault("named", errno))?;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .map_err(|errno| fault("made", errno))?;
        bind_with_mode(&socket, &address, Mode::from_raw_mode(file.mode))
            .map_err(|errno| fault("bound", errno))?;
        let (bound, status) = just_bound(path)?;
        let bound = Self { socket, path: path.to_owned(), file: bound, inode: inode(&status) };
        if let Some(group) = file.group {
            bound.give(None, Gid::from_raw(group)).map_err(|errno| fault("given to its group", errno))?;
        }
        // Until this call, every connection is refused.
        listen(&bound.socket, UNIX_BACKLOG).map_err(|errno| fault("listened on", errno))?;
        Ok(bound)
    }

    /// Changes the owner of the socket file. Its mode then admits only connections of that user.
    ///
    /// # Errors
    /// Returns a finding for the operator.
    pub(super) fn give_to(&self, user: User) -> Result<(), Finding> {
        self.give(Some(Uid::from_raw(user.uid())), Gid::from_raw(user.gid())).map_err(|errno| {
            Finding::error(
                Location::file(&self.path),
                format!("the socket's owner cannot be changed to user {user}: {errno}"),
            )
            .hint("choose a path where root can change the owner of files")
        })
    }

    /// Changes the file that was bound, never a file that replaced it.
    fn give(&self, user: Option<Uid>, group: Gid) -> Result<(), Errno> {
        rustix::fs::chownat(&self.file, "", user, Some(group), AtFlags::EMPTY_PATH)
    }

    /// Returns the socket file. A process without access to its directory can connect to it by /proc/self/fd.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub(super) fn file(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if rustix::fs::lstat(&self.path).is_ok_and(|status| inode(&status) == self.inode) {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

fn inode(status: &Stat) -> (u64, u64) {
    (status.st_dev, status.st_ino)
}

/// Takes the lock for a socket. Two supervisors that start at the same time must not remove each other's new
/// socket: each holds this lock while it binds.
fn lock(socket: &Path) -> Result<Lock, Finding> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    Lock::take(path.clone(), lock::PATIENCE).map_err(|error| {
        let hint = match error {
            LockError::Held(..) => "wait for the other start, or end that process",
            LockError::Foreign(_) => "remove it, or choose a directory where no other user can create files",
            LockError::System(_) => "choose another path, or start luassld with more privileges",
        };
        Finding::error(Location::file(&path), format!("the lock cannot be taken: {error}")).hint(hint)
    })
}

/// Binds the socket. The file gets its mode from the socket (unix(7)) when it is created, so no call changes
/// it by path.
fn bind_with_mode(socket: &OwnedFd, address: &SocketAddrUnix, mode: Mode) -> Result<(), Errno> {
    rustix::fs::fchmod(socket, mode)?;
    let former = rustix::process::umask(Mode::empty());
    let bound = bind(socket, address);
    rustix::process::umask(former);
    bound
}

/// Returns the file at `path`. It must be the file that was just bound: a socket of this user with no other
/// name.
fn just_bound(path: &Path) -> Result<(OwnedFd, Stat), Finding> {
    let fault = |what: &str| {
        Finding::error(Location::file(path), format!("the socket was bound, but {what}"))
            .hint("choose a directory where no other user can create files")
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| fault(&format!("cannot be opened by its path: {errno}")))?;
    let status = rustix::fs::fstat(&file).map_err(|errno| fault(&format!("cannot be inspected: {errno}")))?;
    let is_socket = FileType::from_raw_mode(status.st_mode) == FileType::Socket;
    if !is_socket || status.st_nlink != 1 || status.st_uid != rustix::process::geteuid().as_raw() {
        return Err(fault("its path now leads to another file"));
    }
    Ok((file, status))
}

fn remove_stale(path: &Path, kind: SocketType) -> Result<(), Finding> {
    let Ok(status) = rustix::fs::lstat(path) else { return Ok(()) };
    if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
        return Err(Finding::error(Location::file(path), "path exists and is not a socket")
            .hint("choose another path, or remove the file"));
    }
    if someone_listens(path, kind) {
        return Err(Finding::error(Location::file(path), "another process listens on this socket")
            .hint("stop it first, or choose another path with --socket"));
    }
    rustix::fs::unlink(path).map_err(|errno| {
        Finding::error(Location::file(path), format!("the stale socket cannot be removed: {errno}"))
            .hint("remove it")
    })
}

/// Returns whether a process accepts connections. Only ECONNREFUSED counts as no.
fn someone_listens(path: &Path, kind: SocketType) -> bool {
    let attempt = || -> Result<(), Errno> {
        let address = SocketAddrUnix::new(path)?;
        let socket =
            socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        connect(&socket, &address)
    };
    attempt() != Err(Errno::CONNREFUSED)
}

/// A listening TCP socket.
#[derive(Debug)]
pub(super) struct TcpSocket {
    socket: OwnedFd,
    address: SocketAddr,
}

impl TcpSocket {
    fn bind(name: &str, address: SocketAddr, location: &Location) -> Result<Self, Finding> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let attempt = || -> Result<OwnedFd, Errno> {
            let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &address)?;
            listen(&socket, BACKLOG)?;
            Ok(socket)
        };
        let socket = attempt().map_err(|errno| refused(name, address, location, errno))?;
        Ok(Self { socket, address })
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn refused(name: &str, address: SocketAddr, location: &Location, errno: Errno) -> Finding {
    let port = address.port();
    let (cause, hint) = match errno {
        Errno::ADDRINUSE => (
            "is in use by another program".to_owned(),
            format!("stop it (`ss -ltnp 'sport = :{port}'` names it), or choose another address"),
        ),
        Errno::ACCESS | Errno::PERM => (
            format!("cannot be bound: {errno}"),
            "start luassld as root or with CAP_NET_BIND_SERVICE, or choose port 1024 or higher".to_owned(),
        ),
        Errno::ADDRNOTAVAIL => {
            ("is not an address of this machine".to_owned(), "`ip address` lists its addresses".to_owned())
        }
        other => (format!("cannot be listened on: {other}"), "choose another address".to_owned()),
    };
    Finding::error(location.clone(), format!("listener `{name}`: {address} {cause}")).hint(hint)
}

/// Configured listeners by name.
pub(super) type Listeners = BTreeMap<String, Arc<TcpSocket>>;

/// Binds the listeners of `config`. A listener that is in `former`, under any name, is kept unchanged.
///
/// # Errors
/// Returns a finding for the first listener that cannot be bound. The listeners that were bound before it are
/// then closed.
pub(super) fn listeners(config: &Config, former: &Listeners) -> Result<Listeners, Finding> {
    let open = |(name, listener): (&String, &Listener)| {
        let address = listener.address.ok_or_else(|| {
            Finding::error(listener.location.clone(), format!("listener `{name}` has no address"))
                .hint("`luassld run` binds the listener itself: set `address = \"IP:PORT\"`")
        })?;
        let known = former.values().find(|socket| socket.address == address).cloned();
        let socket = match known {
            Some(socket) => socket,
            None => Arc::new(TcpSocket::bind(name, address, &listener.location)?),
        };
        Ok((name.clone(), socket))
    };
    config.listeners.iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, load_text};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn file() -> SocketFile {
        SocketFile { mode: 0o640, ..SocketFile::default() }
    }

    fn config(address: SocketAddr) -> Config {
        let text = format!("[listener.a]\naddress = '{address}'");
        load_text(Path::new("/x.toml"), &text, &Request::default()).config.expect("a good configuration")
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let socket = UnixSocket::bind(&path, &file(), SocketType::STREAM).expect("bound");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn finding_10_a_directory_that_somebody_locked_keeps_no_start_waiting() {
        let directory = tempfile::tempdir().expect("a directory");
        let locked = std::fs::File::open(directory.path()).expect("opened");
        rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).expect("locked");
        // Positive control: another process waits for the lock of the directory.
        let second = std::fs::File::open(directory.path()).expect("opened");
        let wanted = rustix::fs::flock(&second, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        assert_eq!(wanted, Err(Errno::WOULDBLOCK));
        UnixSocket::bind(&directory.path().join("a.sock"), &file(), SocketType::STREAM).expect("bound");
        let left = std::fs::read_dir(directory.path()).expect("listed").count();
        assert_eq!(left, 0, "the lock's file goes");
    }

    #[test]
    fn finding_10_the_mode_is_there_with_the_file_and_nothing_is_changed_by_its_path() {
        let directory = tempfile::tempdir().expect("a directory");
        for mode in [0o600, 0o640, 0o660, 0o666] {
            let path = directory.path().join(format!("{mode:o}.sock"));
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .expect("a socket");
            let address = SocketAddrUnix::new(&path).expect("a short path");
            bind_with_mode(&socket, &address, Mode::from_raw_mode(mode)).expect("bound");
            let there = std::fs::symlink_metadata(&path).expect("a file").permissions().mode();
            assert_eq!(there & 0o7777, mode);
        }
    }

    #[test]
    fn finding_10_what_takes_the_sockets_place_is_not_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let bound = std::os::unix::net::UnixListener::bind(path("a.sock")).expect("bound");
        // Positive control: the socket itself is accepted.
        just_bound(&path("a.sock")).expect("the socket");
        std::fs::write(path("victim"), "").expect("written");
        std::os::unix::fs::symlink(path("victim"), path("link")).expect("linked");
        std::fs::hard_link(path("a.sock"), path("second-name")).expect("linked");
        for name in ["link", "victim", "second-name"] {
            let refused = just_bound(&path(name)).expect_err(name);
            assert_eq!(refused.cause, "the socket was bound, but its path now leads to another file");
        }
        drop(bound);
    }

    #[test]
    fn finding_10_a_socket_is_given_away_by_its_file_and_not_by_its_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let socket = UnixSocket::bind(&path, &file(), SocketType::STREAM).expect("bound");
        std::fs::rename(&path, directory.path().join("moved")).expect("moved");
        std::fs::write(&path, "").expect("written");
        let group = |path: &Path| std::fs::metadata(path).expect("a file").gid();
        let before = group(&path);
        // Root may assign any group, and other users their own.
        let wanted = if rustix::process::geteuid().is_root() { 54_321 } else { before };
        socket.give(None, Gid::from_raw(wanted)).expect("given");
        assert_eq!(group(&directory.path().join("moved")), wanted);
        assert_eq!(group(&path), before, "what took its place is as it was");
        drop(socket);
        assert!(path.exists(), "it is not the socket");
    }

    #[test]
    fn a_socket_that_somebody_serves_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        let _served = UnixSocket::bind(&path, &file(), SocketType::STREAM).expect("bound");
        let again = UnixSocket::bind(&path, &file(), SocketType::STREAM).expect_err("refused");
        assert_eq!(again.cause, "another process listens on this socket");
        assert!(path.exists());
    }

    #[test]
    fn a_socket_that_nobody_serves_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        UnixSocket::bind(&path, &file(), SocketType::SEQPACKET).expect("replaced");
    }

    #[test]
    fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.sock");
        std::fs::write(&path, "precious").expect("written");
        let refused = UnixSocket::bind(&path, &file(), SocketType::STREAM).expect_err("refused");
        assert_eq!(refused.cause, "path exists and is not a socket");
        assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
    }

    #[test]
    fn a_port_in_use_is_named_with_a_remedy() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = taken.local_addr().expect("an address");
        let refused = listeners(&config(address), &Listeners::new()).expect_err("refused");
        let port = address.port();
        assert_eq!(
            refused.to_string(),
            format!(
                "error: /x.toml:1: listener `a`: {address} is in use by another program\n\
                 hint: stop it (`ss -ltnp 'sport = :{port}'` names it), or choose another address"
            )
        );
    }

    #[test]
    fn a_listener_that_stays_is_the_same_socket() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = free.local_addr().expect("an address");
        drop(free);
        let first = listeners(&config(address), &Listeners::new()).expect("bound");
        let second = listeners(&config(address), &first).expect("kept");
        assert!(Arc::ptr_eq(&first["a"], &second["a"]));
    }
}
