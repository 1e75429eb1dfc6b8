//! An empty root directory and a network without an interface, as the units have them (RootDirectory=, PrivateNetwork=):
//! for the children of `luassld run`. What is open stays open, and sockets that were passed stay in their network. The
//! paths of other services' Unix sockets are gone, and so are abstract sockets.

#[allow(unsafe_code)]
mod raw;

use crate::{SandboxError, user};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{
    chdir, getegid, geteuid, parent_process_death_signal, pivot_root, set_parent_process_death_signal,
};
use rustix::thread::UnshareFlags;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;

/// The path of the one socket that a process keeps.
pub const SOCKET: &str = "/keeper.sock";

/// Where the new root directory is mounted before it is one: a directory that every system has.
const PLACE: &str = "/proc";
/// Where the socket is then.
const SOCKET_IN_PLACE: &str = "/proc/keeper.sock";
/// Enough for the directory and the socket's mount point.
const TMPFS: &std::ffi::CStr = c"size=4k,nr_inodes=4,mode=0555";

/// The privilege with which a process gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Root's (CAP_SYS_ADMIN).
    Root,
    /// Its own, in a user namespace that has its own user alone: there every other user is one and the same, 65534.
    UserNamespace,
}

impl Isolation {
    /// As in options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "user-namespace",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Not the name of a kind of isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write root or user-namespace")]
pub struct NoIsolation;

impl FromStr for Isolation {
    type Err = NoIsolation;

    fn from_str(text: &str) -> Result<Self, NoIsolation> {
        [Self::Root, Self::UserNamespace].into_iter().find(|kind| kind.name() == text).ok_or(NoIsolation)
    }
}

/// Leaves the file system and the network; `socket` is then at [`SOCKET`]. To be called by the only thread there is,
/// before it becomes another user and before it is closed to others.
///
/// # Errors
/// [`SandboxError::Isolation`].
pub fn enter(isolation: Isolation, socket: Option<&Path>) -> Result<(), SandboxError> {
    leave(isolation, socket).map_err(SandboxError::Isolation)
}

/// Tests in a short-lived child whether the system permits it.
///
/// # Errors
/// The system's, as in [`enter`].
pub fn probe(isolation: Isolation) -> Result<(), Errno> {
    raw::in_a_child(|| leave(isolation, None))
}

fn leave(isolation: Isolation, socket: Option<&Path>) -> Result<(), Errno> {
    let spaces = UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    let socket = match isolation {
        Isolation::Root => {
            // While the mount that an open file is in is one of this process's.
            let socket = socket.map(taken_along).transpose()?;
            raw::unshare(spaces)?;
            socket
        }
        Isolation::UserNamespace => {
            let end = parent_process_death_signal()?;
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            raw::unshare(spaces | UnshareFlags::NEWUSER)?;
            map_own_user(uid, gid)?;
            set_parent_process_death_signal(end)?;
            socket.map(taken_along).transpose()?
        }
    };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    empty_root(socket.as_ref())?;
    match isolation {
        // It goes with the change of the user.
        Isolation::Root => Ok(()),
        Isolation::UserNamespace => user::give_up_capabilities(),
    }
}

/// A mount of the socket's file alone.
fn taken_along(socket: &Path) -> Result<OwnedFd, Errno> {
    open_tree(CWD, socket, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// user_namespaces(7): who is not root may map its own ids, and gives up setgroups(2) for it.
fn map_own_user(uid: u32, gid: u32) -> Result<(), Errno> {
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))
}

fn write(path: &str, text: &str) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

fn empty_root(socket: Option<&OwnedFd>) -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", PLACE, "tmpfs", flags, TMPFS)?;
    if let Some(socket) = socket {
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::open(SOCKET_IN_PLACE, create, Mode::empty())?;
        move_mount(socket, "", CWD, SOCKET_IN_PLACE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    mount_remount(PLACE, flags | MountFlags::BIND | MountFlags::RDONLY, c"")?;
    chdir(PLACE)?;
    // pivot_root(2): the old root lies over the new one then, and is taken off.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

    fn connects(path: &Path) -> Result<(), Errno> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    }

    /// The kind that this user can have here; none is said.
    fn kind() -> Option<Isolation> {
        let kind = if geteuid().is_root() { Isolation::Root } else { Isolation::UserNamespace };
        probe(kind)
            .inspect_err(|error| eprintln!("not tried: no namespaces here: {error}"))
            .ok()
            .map(|()| kind)
    }

    #[test]
    fn finding_24_another_services_socket_cannot_be_reached_and_the_one_taken_along_can() {
        let Some(kind) = kind() else { return };
        let directory = tempfile::tempdir().expect("a directory");
        let [others, own] = ["others", "own"].map(|name| directory.path().join(name));
        let _listeners = [&others, &own]
            .map(|path| std::os::unix::net::UnixListener::bind(path).expect("a socket that listens"));
        // Positive control: outside, the same process reaches both.
        raw::in_a_child(|| connects(&others).and_then(|()| connects(&own))).expect("connected");
        let inside = raw::in_a_child(|| {
            leave(kind, Some(&own))?;
            connects(Path::new(SOCKET))?;
            connects(&others)
        });
        assert_eq!(inside, Err(Errno::NOENT));
    }

    #[test]
    fn finding_24_nothing_else_is_in_the_new_root_and_nothing_can_be_put_there() {
        let Some(kind) = kind() else { return };
        let made = raw::in_a_child(|| {
            leave(kind, None)?;
            rustix::fs::mkdir("/made", Mode::RWXU)
        });
        assert_eq!(made, Err(Errno::ROFS));
        for path in ["/proc", "/etc", "/..", "/keeper.sock"] {
            let found = raw::in_a_child(|| {
                leave(kind, None)?;
                rustix::fs::stat(path).map(drop)
            });
            // A root directory is its own parent.
            assert_eq!(found, if path == "/.." { Ok(()) } else { Err(Errno::NOENT) }, "{path}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in [Isolation::Root, Isolation::UserNamespace] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("none".parse::<Isolation>(), Err(NoIsolation));
    }
}
