//! The Lua interpreters, with the module that `make` built for each.

use crate::daemon::Daemon;
use crate::process::Process;
use crate::{built, pki, repository};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One Lua implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lua {
    /// The directory under `build/lua/`.
    pub abi: &'static str,
    /// The interpreter's command.
    command: &'static str,
    /// Whether Debian's LuaSocket can be loaded by it.
    pub has_socket: bool,
}

/// Lua 5.1.
pub const LUA51: Lua = Lua { abi: "5.1", command: "lua5.1", has_socket: true };
/// Lua 5.2.
pub const LUA52: Lua = Lua { abi: "5.2", command: "lua5.2", has_socket: true };
/// Lua 5.3.
pub const LUA53: Lua = Lua { abi: "5.3", command: "lua5.3", has_socket: true };
/// Lua 5.4.
pub const LUA54: Lua = Lua { abi: "5.4", command: "lua5.4", has_socket: true };
/// Lua 5.5, from `tests/lua55`.
pub const LUA55: Lua = Lua { abi: "5.5", command: "", has_socket: false };
/// LuaJIT, whose `ffi` also gives tests what plain Lua lacks: poll and fork.
pub const LUAJIT: Lua = Lua { abi: "jit", command: "luajit", has_socket: true };

/// All of them.
pub const EVERY_LUA: [Lua; 6] = [LUA51, LUA52, LUA53, LUA54, LUA55, LUAJIT];

impl Lua {
    /// The interpreter with the module's paths, in the development PKI's directory (the quickstart's programs name
    /// `keys/server.pem`), talking to `daemon`.
    #[must_use]
    pub fn command(self, daemon: &Daemon) -> Command {
        self.command_at(&daemon.socket())
    }

    /// The interpreter alone, with modules of the system, in the development PKI's directory; `modules` of the repository
    /// come first.
    #[must_use]
    pub fn plain_command(self, modules: &[&Path]) -> Command {
        let both = |module: &&Path| format!("{0}/?.lua;{0}/?/init.lua", module.display());
        let ours: Vec<String> = modules.iter().map(both).collect();
        let path = ours.join(";") + ";;";
        let mut command = Command::new(self.command);
        command.current_dir(pki::file("")).env("LUA_PATH", path).env("LUA_CPATH", ";;");
        command
    }

    /// The interpreter with the shims that stand for LuaSec, talking to `daemon`; `modules` of the repository come first.
    #[must_use]
    pub fn luasec_command(self, daemon: &Daemon, modules: &[&Path]) -> Command {
        let module = built("lua").join(self.abi);
        let shims = module.join("luasec");
        let all: Vec<&Path> = modules.iter().copied().chain([&*shims, &*module]).collect();
        let mut command = self.plain_command(&all);
        command
            .env("LUA_CPATH", format!("{}/?.so;;", module.display()))
            .env("LUASSL_SOCKET", daemon.socket());
        command
    }

    /// As [`Lua::command`], talking to whoever listens on `socket`.
    #[must_use]
    pub fn command_at(self, socket: &Path) -> Command {
        let program =
            if self.command.is_empty() { built("test/lua5.5") } else { PathBuf::from(self.command) };
        let module = built("lua").join(self.abi);
        let tests = repository().join("tests/lua");
        let mut command = Command::new(program);
        command
            .current_dir(pki::file(""))
            .env("LUA_PATH", format!("{}/?.lua;{}/?.lua;;", module.display(), tests.display()))
            .env("LUA_CPATH", format!("{}/?.so;;", module.display()))
            .env("LUASSL_SOCKET", socket);
        command
    }

    /// Starts a program of `tests/lua` with `arguments`.
    #[must_use]
    pub fn run(self, daemon: &Daemon, program: &str, arguments: &[&str]) -> Process {
        let path = repository().join("tests/lua").join(program);
        Process::start(self.command(daemon).arg(path).args(arguments))
    }
}
