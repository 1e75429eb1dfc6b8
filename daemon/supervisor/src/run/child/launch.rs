//! Starts a child with its sockets by the LISTEN_FDS protocol (sd_listen_fds(3)).
//!
//! LISTEN_PID must be the process ID of the child, and the sockets must be its descriptors from 3 up. A
//! parent cannot arrange either without running code between fork and exec. The child therefore starts as
//! `luassld launch`. It reads the program and the sockets from its standard input, arranges to be killed when
//! its parent exits, and becomes the program by exec.

use luassl_keeper_ipc::transport::{self, RecvFlags, SendFlags};
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first descriptor of the LISTEN_FDS protocol.
const FIRST_DESCRIPTOR: i32 = 3;
/// The maximum size of an order, in bytes.
const MAX_ORDER: usize = 64 << 10;

/// The amount of memory that a child of root may lock, in bytes: an arena for some ten thousand keys.
const LOCKED_MEMORY: u64 = 64 << 20;

/// A program to execute.
#[derive(Debug, Clone)]
pub struct Program {
    /// The absolute path of its file.
    pub file: PathBuf,
    /// Its arguments, without the program name.
    pub arguments: Vec<String>,
}

/// The order that a child reads from its standard input, together with its sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    parent: i32,
    file: PathBuf,
    arguments: Vec<String>,
    names: Vec<String>,
}

/// Returns a command that starts `launcher` (a `luassld`), which becomes `program` with `sockets` by their
/// names.
///
/// The command must be spawned from the main thread: the child is killed when the thread that spawned it
/// exits (PR_SET_PDEATHSIG).
///
/// # Errors
/// Returns an error if the order cannot be written.
pub fn command(
    launcher: &Path,
    program: &Program,
    sockets: &[(String, BorrowedFd<'_>)],
) -> io::Result<Command> {
    let order = Order {
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        file: program.file.clone(),
        arguments: program.arguments.clone(),
        names: sockets.iter().map(|(name, _)| name.clone()).collect(),
    };
    let order = rmp_serde::to_vec_named(&order).map_err(io::Error::other)?;
    if order.len() > MAX_ORDER {
        return Err(io::Error::other("too many arguments"));
    }
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| *socket).collect();
    let (ours, childs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    transport::send(&ours, &order, &descriptors, SendFlags::DONTWAIT)?;
    let mut command = Command::new(launcher);
    command.arg("launch").env_clear().stdin(Stdio::from(childs)).stdout(Stdio::null());
    // A Ctrl-C in a terminal must reach only the supervisor, which stops its children in their order.
    command.process_group(0);
    Ok(command)
}

/// Runs `luassld launch`: executes the program in the order on standard input. Returns only on error.
pub fn launch() -> io::Error {
    become_child().err().unwrap_or_else(|| io::Error::other("the program was not started"))
}

fn become_child() -> io::Result<()> {
    crate::run::child::inherited::close_all()?;
    let mut buffer = vec![0; MAX_ORDER];
    let stdin = io::stdin();
    let received = transport::recv(&stdin, &mut buffer, transport::DESCRIPTORS_MAX, RecvFlags::DONTWAIT)
        .map_err(|_| io::Error::other("only `luassld run` starts this"))?;
    let order: Order = rmp_serde::from_slice(&buffer[..received.len]).map_err(io::Error::other)?;
    end_with(order.parent)?;
    set_limits();
    keep_open(received.descriptors)?;
    Err(Command::new(&order.file)
        .args(&order.arguments)
        .env_clear()
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS", order.names.len().to_string())
        .env("LISTEN_FDNAMES", order.names.join(":"))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .exec())
}

/// Sets the same limits as the units: no core dumps (LimitCORE=) from the start, and lockable memory
/// (LimitMEMLOCK=) of the size of the keeper's arena. Only root may raise the latter; for other users the
/// keeper reports the missing amount.
fn set_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let limit = getrlimit(Resource::Memlock);
    let enough = |maximum: Option<u64>| maximum.is_none_or(|maximum| maximum >= LOCKED_MEMORY);
    if rustix::process::geteuid().is_root() && !enough(limit.maximum) {
        let raised = Rlimit { current: Some(LOCKED_MEMORY), maximum: Some(LOCKED_MEMORY) };
        let _ = setrlimit(Resource::Memlock, raised);
    }
}

/// Arranges that this process is killed when its parent exits. If the supervisor is killed, its children are
/// without supervision, and their copies of the sockets prevent the next supervisor from binding them.
fn end_with(parent: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have exited before PR_SET_PDEATHSIG was set.
    if getppid() == Pid::from_raw(parent) {
        Ok(())
    } else {
        Err(io::Error::other("the supervisor has exited"))
    }
}

/// Keeps the sockets open across exec. Their numbers start at 3, because they are the lowest free numbers of
/// a process that had no other descriptors.
fn keep_open(descriptors: Vec<OwnedFd>) -> io::Result<()> {
    for (descriptor, wanted) in descriptors.into_iter().zip(FIRST_DESCRIPTOR..) {
        if descriptor.as_raw_fd() != wanted {
            return Err(io::Error::other("the sockets arrived in the wrong order"));
        }
        rustix::io::fcntl_setfd(&descriptor, FdFlags::empty())?;
        // From this point the program owns the descriptor.
        let _ = descriptor.into_raw_fd();
    }
    Ok(())
}
