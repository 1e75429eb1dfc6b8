//! Processes that are started with sockets, by the LISTEN_FDS protocol, as systemd does it.

use crate::process::Process;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Above every descriptor that the protocol gives a place.
const ABOVE: i32 = 200;

/// A listening socket at `path`.
///
/// # Panics
/// When there can be none.
#[must_use]
pub fn listening(path: &Path, kind: SocketType) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("bound");
    listen(&socket, 64).expect("listens");
    socket
}

/// Starts `program` with `sockets`, by their names, and nothing else of this process's environment.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn start(program: &Path, arguments: &[&str], sockets: &[(&str, &OwnedFd)]) -> Process {
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    // Copies, since a socket may lie where another one has to go.
    let copies: Vec<OwnedFd> = sockets
        .iter()
        .map(|(_, socket)| rustix::io::fcntl_dupfd_cloexec(socket, ABOVE).expect("a copy"))
        .collect();
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(program).args(arguments);
    command.env("LISTEN_FDS", copies.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let place = move || {
        for (to, copy) in (3..).zip(&copies) {
            // SAFETY: takes numbers alone. What lay at `to` in this child is close-on-exec, and nobody's after it.
            if unsafe { libc::dup2(copy.as_raw_fd(), to) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: makes system calls alone.
    unsafe { command.pre_exec(place) };
    Process::start(&mut command)
}
