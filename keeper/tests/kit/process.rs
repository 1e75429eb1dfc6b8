//! A keeper in a process of its own, started by the LISTEN_FDS protocol.

use super::{Bench, Keeper, Socket, pair};
use rustix::process::{Pid, Signal, kill_process};
use std::os::fd::{AsFd, OwnedFd};
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

    /// Starts one with a variable in its environment. The shell puts both sockets where the protocol wants them.
    pub fn start_with(program: &Path, listener: &OwnedFd, variable: &str) -> (Self, Socket) {
        let (ours, theirs) = pair();
        let script = "exec env -i \"$1\" LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=admin:front.web \"$0\" 3<&0 4<&1 0</dev/null \
                      1>/dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(program).arg(variable).stdin(Stdio::from(theirs));
        command.stdout(Stdio::from(listener.as_fd().try_clone_to_owned().expect("a copy")));
        let child = command.spawn().expect("the keeper starts");
        (Self { child }, Socket::new(ours))
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

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
