//! `luassld run`, from what `make` built.

use crate::process::{Process, children, command_line, signal_pid};
use crate::{built, pki, scratch, until};
use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A running daemon: a supervisor with its front and its keeper.
pub struct Daemon {
    process: Process,
    directory: TempDir,
}

impl Daemon {
    /// With the identities of the development PKI, and every grant for whoever runs the test.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start() -> Self {
        Self::with_identities(&pki::keys())
    }

    /// With the identities in `directory`.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn with_identities(directory: &Path) -> Self {
        let scratch = scratch();
        let mut command = Self::command();
        command.arg("--identities").arg(directory).arg("--socket").arg(scratch.path().join("luassl.sock"));
        Self::run(&mut command, scratch)
    }

    /// With a configuration; `SOCKET` in it stands for the control socket's path, `PKI` for the development PKI,
    /// `DIR` for the daemon's directory and `UID` for the user that runs the test.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn with_config(config: &str) -> Self {
        let scratch = scratch();
        Self::with_config_in(config, scratch)
    }

    /// As [`Daemon::with_config`], in a directory that has files already.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn with_config_in(config: &str, scratch: TempDir) -> Self {
        let path = scratch.path().join("luassl.toml");
        std::fs::write(&path, fill_in(config, scratch.path())).expect("the configuration");
        let mut command = Self::command();
        command.arg("--config").arg(path);
        Self::run(&mut command, scratch)
    }

    /// As [`Daemon::with_config_in`], where `certificates` lies over the system's directory of certificates, for the daemon
    /// and nobody else. Needs root.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn with_system_certificates(config: &str, scratch: TempDir, certificates: &Path) -> Self {
        const MOUNTED: &str =
            "mount --bind \"$1\" \"$(openssl version -d | cut -d '\"' -f 2)/certs\"; shift; exec \"$@\"";
        let path = scratch.path().join("luassl.toml");
        std::fs::write(&path, fill_in(config, scratch.path())).expect("the configuration");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", MOUNTED, "sh"]).arg(certificates);
        command.arg(built("bin/luassld")).args(["run", "--config"]).arg(path);
        Self::run(&mut command, scratch)
    }

    /// As [`Daemon::with_identities`], with the programs in the directory `programs`.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn from_programs(programs: &Path, identities: &Path) -> Self {
        let scratch = scratch();
        let mut command = Command::new(programs.join("luassld"));
        command.arg("run").arg("--identities").arg(identities);
        command.arg("--socket").arg(scratch.path().join("luassl.sock"));
        Self::run(&mut command, scratch)
    }

    /// As [`Daemon::with_identities`], with a keeper that was built for a test: a file in `build/test`.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn with_keeper(keeper: &str, identities: &Path) -> Self {
        let scratch = scratch();
        let programs = programs_in(&scratch, &[("bin/luassld", "luassld"), (keeper, "luassl-keeper")]);
        Self::run(&mut own_programs(&programs, identities, &scratch), scratch)
    }

    /// As [`Daemon::with_config`], with a keeper and a front that misbehave as the names of the fronts say.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn hostile(config: &str) -> Self {
        Self::start_hostile(config, |_| {})
    }

    fn start_hostile(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let scratch = scratch();
        let built = [("test/luassld-hostile", "luassld"), ("test/keeper-hostile", "luassl-keeper")];
        let programs = programs_in(&scratch, &built);
        let path = scratch.path().join("luassl.toml");
        std::fs::write(&path, fill_in(config, scratch.path())).expect("the configuration");
        let mut command = Command::new(programs.join("luassld"));
        prepare(command.arg("run").arg("--config").arg(path));
        Self::spawn(&mut command, scratch)
    }

    /// As [`Daemon::start`], by somebody with these variables in his environment.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn with_environment(variables: &[(&str, &Path)]) -> Self {
        let scratch = scratch();
        let mut command = Self::command();
        command.arg("--identities").arg(pki::keys()).arg("--socket").arg(scratch.path().join("luassl.sock"));
        Self::run(command.envs(variables.iter().copied()), scratch)
    }

    /// As [`Daemon::start`], on a kernel that has not these system calls.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn on_a_kernel_without(calls: &[i64]) -> Self {
        let scratch = scratch();
        let mut command = Self::command();
        command.arg("--identities").arg(pki::keys()).arg("--socket").arg(scratch.path().join("luassl.sock"));
        crate::kernel::without(&mut command, calls);
        Self::run(&mut command, scratch)
    }

    /// As [`Daemon::hostile`], on a kernel that has not these system calls.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn hostile_on_a_kernel_without(calls: &[i64], config: &str) -> Self {
        Self::start_hostile(config, |command| crate::kernel::without(command, calls))
    }

    /// With the identities of the development PKI, as a user that is not root: [`STRANGER`] where root runs the test.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn without_root() -> Self {
        let scratch = scratch();
        let programs = programs_in(&scratch, &PROGRAMS);
        let identities = scratch.path().join("keys");
        std::fs::create_dir(&identities).expect("a directory");
        for file in std::fs::read_dir(pki::keys()).expect("the PKI").flatten() {
            crate::copy_file(file.path(), identities.join(file.file_name()));
        }
        let mut command = own_programs(&programs, &identities, &scratch);
        if rustix::process::geteuid().is_root() {
            give_away(scratch.path());
            command.uid(STRANGER).gid(STRANGER);
        }
        Self::run(&mut command, scratch)
    }

    /// As [`Daemon::start`], where processes may leave cores.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn with_cores() -> Self {
        let scratch = scratch();
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).arg(built("bin/luassld"));
        command.arg("run").arg("--identities").arg(pki::keys());
        command.arg("--socket").arg(scratch.path().join("luassl.sock"));
        Self::run(&mut command, scratch)
    }

    fn command() -> Command {
        let mut command = Command::new(built("bin/luassld"));
        command.arg("run");
        command
    }

    fn run(command: &mut Command, directory: TempDir) -> Self {
        let mut daemon = Self::spawn(command, directory);
        assert_eq!(daemon.process.line(), "ready", "{}", daemon.process.transcript());
        daemon
    }

    /// Does not wait until it is ready.
    fn spawn(command: &mut Command, directory: TempDir) -> Self {
        use std::os::unix::fs::PermissionsExt;
        // Programs of other users reach the control socket where a test lets them.
        let _ = std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755));
        Self { process: Process::start(command.current_dir(directory.path())), directory }
    }

    /// Its directory: the control socket is `luassl.sock` in it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("luassl.sock")
    }

    /// Process id of the supervisor.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Process id of the front.
    #[must_use]
    pub fn front(&self) -> u32 {
        self.child("front")
    }

    /// Process id of the keeper.
    #[must_use]
    pub fn keeper(&self) -> u32 {
        self.child("luassl-keeper")
    }

    fn child(&self, name: &str) -> u32 {
        let mut found = None;
        until(&format!("the supervisor's {name}"), || {
            found = children(self.pid()).into_iter().find(|pid| names(*pid, name));
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Kills the front, waits until the supervisor has another, and gives the new one's id.
    pub fn kill_front(&self) -> u32 {
        self.replace(self.front(), Self::front)
    }

    /// Kills the keeper, waits until the supervisor has another, and gives the new one's id.
    pub fn kill_keeper(&self) -> u32 {
        self.replace(self.keeper(), Self::keeper)
    }

    fn replace(&self, old: u32, current: impl Fn(&Self) -> u32) -> u32 {
        signal_pid(old, Signal::KILL);
        let mut new = old;
        until("the supervisor to start it again", || {
            new = current(self);
            new != old
        });
        new
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Everything that the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.errors()
    }

    /// Waits until the log has `text` in it.
    pub fn expect_log(&self, text: &str) {
        self.process.expect_error(text);
    }

    /// The process of the supervisor, for its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.transcript());
        }
        self.process.signal(Signal::TERM);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while self.process.runs() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// A user without a name, rights or files.
pub const STRANGER: u32 = 54_321;

const PROGRAMS: [(&str, &str); 2] = [("bin/luassld", "luassld"), ("bin/luassl-keeper", "luassl-keeper")];

/// Copies programs from `build/` into a directory that every user can look into.
fn programs_in(scratch: &TempDir, programs: &[(&str, &str)]) -> PathBuf {
    let directory = scratch.path().join("programs");
    std::fs::create_dir(&directory).expect("a directory");
    for (from, to) in programs {
        crate::copy_file(built(from), directory.join(to));
    }
    directory
}

fn own_programs(programs: &Path, identities: &Path, scratch: &TempDir) -> Command {
    let mut command = Command::new(programs.join("luassld"));
    command.arg("run").arg("--identities").arg(identities);
    command.arg("--socket").arg(scratch.path().join("luassl.sock"));
    command
}

/// Gives a directory, and what lies in it, to [`STRANGER`].
fn give_away(path: &Path) {
    std::os::unix::fs::chown(path, Some(STRANGER), Some(STRANGER)).expect("root gives files away");
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.for_each(|entry| give_away(&entry.path()));
}

/// Whether the process `pid` is the child called `name`: `luassld front …` or `luassl-keeper`.
fn names(pid: u32, name: &str) -> bool {
    let line = command_line(pid);
    let mut words = line.split(' ');
    let program = words.next().is_some_and(|program| program.rsplit('/').next() == Some(name));
    program || words.next() == Some(name)
}

/// Puts the places of a test into a configuration. A place is never looked into: a directory's random name may have
/// any of the words in it.
#[must_use]
pub fn fill_in(config: &str, directory: &Path) -> String {
    let pki = pki::file("").display().to_string();
    config
        .replace("UID", &rustix::process::getuid().as_raw().to_string())
        .replace("SOCKET", "DIR/luassl.sock")
        .split("DIR")
        .map(|part| part.replace("PKI", pki.trim_end_matches('/')))
        .collect::<Vec<_>>()
        .join(&directory.display().to_string())
}
