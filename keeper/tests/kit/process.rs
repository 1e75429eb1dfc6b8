//! A keeper in a process of its own, started by the LISTEN_FDS protocol.

use super::{Bench, Keeper, Socket, pair};
use rustix::process::{Pid, Signal, kill_process};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A keeper with a connected admin socket and one front, `web`, whose listening socket outlives it.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts one.
    pub fn start(program: &Path, listener: &OwnedFd) -> (Self, Socket) {
        Self::start_with(program, listener, "NOTHING=")
    }

    /// Starts one with a variable in its environment.
    pub fn start_with(program: &Path, listener: &OwnedFd, variable: &str) -> (Self, Socket) {
        let (mut command, socket) = command(program, listener, variable, ":");
        (Self { child: command.spawn().expect("the keeper starts") }, socket)
    }

    /// Starts one after the shell has run `first`, and on a kernel that answers memfd_secret with `errno`, where there
    /// is one. Its standard error is kept for [`Process::said`].
    pub fn start_after(
        program: &Path,
        listener: &OwnedFd,
        first: &str,
        errno: Option<i32>,
    ) -> (Self, Socket) {
        let (mut command, socket) = command(program, listener, "NOTHING=", first);
        command.stderr(Stdio::piped());
        if let Some(filter) = errno.map(without_secret_memory) {
            let apply = move || apply_filter(&filter).map_err(std::io::Error::other);
            // SAFETY: makes two system calls, and allocates only where they fail.
            unsafe { command.pre_exec(apply) };
        }
        (Self { child: command.spawn().expect("the keeper starts") }, socket)
    }

    /// Waits for its end; whether it was a good one, and all that it said.
    pub fn said(mut self) -> (bool, String) {
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut said).expect("text");
        }
        (self.child.wait().expect("waited for").success(), said)
    }

    /// Starts one, and pushes identity `a` of the bench to it, if it has one.
    pub fn serving(program: &Path, listener: &OwnedFd, bench: Bench) -> (Self, Keeper) {
        let (process, admin) = Self::start(program, listener);
        let keeper = Keeper { bench, admin };
        keeper.push_a();
        (process, keeper)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the keeper is there");
    }

    /// Whether every one of its threads is stopped: a signal takes effect some time after it was sent.
    pub fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        tasks.flatten().all(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status.contains("\nState:\tT")
        })
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }

    /// Whether it ends by itself, and well.
    pub fn ends_well(mut self) -> bool {
        self.child.wait().expect("waited for").success()
    }
}

/// The shell puts both sockets where the protocol wants them.
fn command(program: &Path, listener: &OwnedFd, variable: &str, first: &str) -> (Command, Socket) {
    let (ours, theirs) = pair();
    let script = format!(
        "{first}; exec env -i \"$1\" LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=admin:front.web \"$0\" 3<&0 4<&1 \
         0</dev/null 1>/dev/null"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(program).arg(variable).stdin(Stdio::from(theirs));
    command.stdout(Stdio::from(listener.as_fd().try_clone_to_owned().expect("a copy")));
    (command, Socket::new(ours))
}

/// memfd_secret fails, and everything else is as it was.
fn without_secret_memory(errno: i32) -> BpfProgram {
    let calls = [(libc::SYS_memfd_secret, Vec::new())].into_iter().collect();
    let fails = SeccompAction::Errno(errno.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, fails, architecture).expect("a filter");
    filter.try_into().expect("a program")
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
