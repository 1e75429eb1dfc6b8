//! Socket activation, as systemd does it: keeper and front get their sockets by the LISTEN_FDS protocol, say READY=1,
//! and are handed what they need by `luasslctl`. The sockets outlive both.

use luassl_tests::agent::Agent;
use luassl_tests::daemon::fill_in;
use luassl_tests::echo;
use luassl_tests::lua::{LUA54, LUAJIT};
use luassl_tests::peer;
use luassl_tests::process::Process;
use luassl_tests::{PATIENCE, built, scratch, until};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const CONFIG: &str = "[control]\nsocket = 'SOCKET'\n[front.default]\nkeeper_socket = 'DIR/keeper.sock'\n\
    [identities]\ndirectory = 'PKI/keys'\n[listener.web]\naddress = '127.0.0.1:PORT'\n\
    [[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server', 'client']\nlisteners = ['web']\n";

/// What systemd holds: the sockets of keeper and front.
struct Sockets {
    directory: TempDir,
    keeper_admin: OwnedFd,
    keeper_front: OwnedFd,
    front_admin: OwnedFd,
    control: OwnedFd,
    web: TcpListener,
}

impl Sockets {
    fn bind() -> Self {
        let directory = scratch();
        let at = |name: &str| directory.path().join(name);
        let web = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = web.local_addr().expect("an address").port();
        let config = fill_in(&CONFIG.replace("PORT", &port.to_string()), directory.path());
        std::fs::write(at("luassl.toml"), config).expect("a configuration");
        Self {
            keeper_admin: listen(&at("keeper-admin.sock"), SocketType::SEQPACKET),
            keeper_front: listen(&at("keeper.sock"), SocketType::SEQPACKET),
            front_admin: listen(&at("front-admin.sock"), SocketType::SEQPACKET),
            control: listen(&at("luassl.sock"), SocketType::STREAM),
            web,
            directory,
        }
    }

    fn port(&self) -> u16 {
        self.web.local_addr().expect("an address").port()
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn start_keeper(&self) -> Process {
        let sockets = [("admin", self.keeper_admin.as_fd()), ("front.default", self.keeper_front.as_fd())];
        let process = self.activate("luassl-keeper", &[], &sockets);
        self.luasslctl(&["push", "--to", "keeper", "--admin", &self.path("keeper-admin.sock")]);
        process
    }

    fn start_front(&self) -> Process {
        let process = self.start_front_alone();
        self.luasslctl(&["push", "--to", "front", "--admin", &self.path("front-admin.sock")]);
        process
    }

    /// A front that nobody has told anything.
    fn start_front_alone(&self) -> Process {
        let sockets = [
            ("admin", self.front_admin.as_fd()),
            ("control", self.control.as_fd()),
            ("listener.web", self.web.as_fd()),
        ];
        self.activate("luassld", &["front", "--keeper", &self.path("keeper.sock")], &sockets)
    }

    fn luasslctl(&self, arguments: &[&str]) {
        let mut command = Command::new(built("bin/luasslctl"));
        Process::start(command.args(arguments).arg("--config").arg(self.path("luassl.toml"))).finish();
    }

    /// Starts a program with sockets from descriptor 3 on, and waits for its READY=1.
    fn activate(
        &self,
        program: &str,
        arguments: &[&str],
        sockets: &[(&str, rustix::fd::BorrowedFd<'_>)],
    ) -> Process {
        let notify = self.directory.path().join("notify.sock");
        let _ = std::fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).expect("a socket");
        ready.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
        let inherited: Vec<_> = sockets.iter().map(|(_, socket)| inheritable(socket)).collect();
        let number = |(n, socket): (usize, &OwnedFd)| format!("{}<&{}", n + 3, socket.as_raw_fd());
        let moves: Vec<_> = inherited.iter().enumerate().map(number).collect();
        // The shell keeps its process id when it becomes the program: it is the one that LISTEN_PID has to name.
        let script = format!(
            "exec {}; export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} NOTIFY_SOCKET={}; exec \"$0\" \"$@\"",
            moves.join(" "),
            sockets.len(),
            names.join(":"),
            notify.display()
        );
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg(built("bin").join(program)).args(arguments).env_clear();
        let process = Process::start(&mut command);
        let mut message = [0; 256];
        let count =
            ready.recv(&mut message).unwrap_or_else(|_| panic!("no READY=1\n{}", process.transcript()));
        assert!(message[..count].starts_with(b"READY=1"));
        process
    }
}

fn listen(path: &Path, kind: SocketType) -> OwnedFd {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket");
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("a name");
    rustix::net::listen(&socket, 128).expect("a listening socket");
    socket
}

/// A copy that a child inherits, out of the way of the numbers from 3 on.
fn inheritable(socket: impl AsFd) -> OwnedFd {
    let copy = rustix::io::fcntl_dupfd_cloexec(socket, 100).expect("a copy");
    rustix::io::fcntl_setfd(&copy, FdFlags::empty()).expect("a flag");
    copy
}

/// An echo server on the configured listener.
fn serve(sockets: &Sockets) -> Process {
    let mut command = LUAJIT.command_at(&sockets.directory.path().join("luassl.sock"));
    command.arg(luassl_tests::repository().join("tests/lua/echo_poll.lua")).args(["server-p256", "web"]);
    let mut server = Process::start(&mut command);
    assert_eq!(server.line(), "serving");
    server
}

#[test]
fn keeper_and_front_take_their_sockets_and_serve() {
    let sockets = Sockets::bind();
    let _keeper = sockets.start_keeper();
    let _front = sockets.start_front();
    let _server = serve(&sockets);
    echo::echo(&mut peer::connect(sockets.port()), "activated\n").expect("an echo");
}

#[test]
fn a_client_that_comes_before_the_first_push_waits_for_it() {
    let sockets = Sockets::bind();
    let mut agent = Agent::of(Process::start(
        LUA54
            .command_at(&sockets.directory.path().join("luassl.sock"))
            .arg(luassl_tests::repository().join("tests/lua/agent.lua")),
    ));
    agent.run("ssl = require 'luassl'");
    agent.send("return ssl.wrap('server') ~= nil");
    let _keeper = sockets.start_keeper();
    let _front = sockets.start_front();
    assert_eq!(agent.answer(), "true");
}

#[test]
fn a_front_and_a_keeper_that_were_started_again_serve_on_the_same_sockets() {
    let sockets = Sockets::bind();
    drop((sockets.start_keeper(), sockets.start_front()));
    let _keeper = sockets.start_keeper();
    let _front = sockets.start_front();
    let _server = serve(&sockets);
    echo::echo(&mut peer::connect(sockets.port()), "again\n").expect("an echo");
}

#[test]
fn reload_hands_everything_over_again() {
    let sockets = Sockets::bind();
    let _keeper = sockets.start_keeper();
    let _front = sockets.start_front();
    let front = format!("default={}", sockets.path("front-admin.sock"));
    sockets.luasslctl(&[
        "reload",
        "--keeper-admin",
        &sockets.path("keeper-admin.sock"),
        "--front-admin",
        &front,
    ]);
    let _server = serve(&sockets);
    until("an echo", || echo::echo(&mut peer::connect(sockets.port()), "reloaded\n").is_ok());
}

#[test]
fn status_shows_what_the_keeper_has_signed() {
    let sockets = Sockets::bind();
    let _keeper = sockets.start_keeper();
    let _front = sockets.start_front();
    let _server = serve(&sockets);
    echo::echo(&mut peer::connect(sockets.port()), "counted\n").expect("an echo");
    let mut command = Command::new(built("bin/luasslctl"));
    command.args(["status", "--keeper-admin", &sockets.path("keeper-admin.sock")]);
    let table = Process::start(&mut command).finish();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["FRONT", "IDENTITY", "SIGNED", "DECRYPTED", "REFUSED"], "{table}");
    assert_eq!(rows[1], ["default", "server-p256", "1", "0", "0"], "{table}");
}

#[test]
fn clients_that_come_before_the_first_push_take_nothing_of_the_front() {
    const CLIENTS: usize = 100;
    let sockets = Sockets::bind();
    let _keeper = sockets.start_keeper();
    let front = sockets.start_front_alone();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", front.pid())).map_or(0, Iterator::count);
    // The keeper's answers come in by a descriptor of its own; so much may still be on its way.
    let before = open() + 4;
    let control = sockets.directory.path().join("luassl.sock");
    let clients: Vec<_> = (0..CLIENTS).map(|_| UnixStream::connect(&control).expect("a place")).collect();
    std::thread::sleep(Duration::from_millis(300));
    assert!(open() <= before, "{} of {before}", open());
    sockets.luasslctl(&["push", "--to", "front", "--admin", &sockets.path("front-admin.sock")]);
    until("the front to take them", || open() >= CLIENTS);
    drop(clients);
}

/// They start a program as another user.
mod needs_root {
    use super::*;
    use luassl_tests::daemon::STRANGER;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    /// `luasslctl push` as a user: whether it succeeded, and what it said.
    fn push(sockets: &Sockets, uid: u32, to: &str) -> (bool, String) {
        let program = sockets.directory.path().join("luasslctl");
        let mut command = Command::new(program);
        command.args(["push", "--to", to, "--admin", &sockets.path(&format!("{to}-admin.sock"))]);
        command.args(["--config", &sockets.path("plain.toml")]).uid(uid).gid(uid).current_dir("/");
        let mut process = Process::start(&mut command);
        (process.wait().success(), process.errors())
    }

    #[test]
    fn a_push_of_a_user_who_may_connect_and_is_not_the_supervisor_is_refused() {
        let sockets = Sockets::bind();
        let directory = sockets.directory.path();
        luassl_tests::copy_file(built("bin/luasslctl"), directory.join("luasslctl"));
        std::fs::write(directory.join("plain.toml"), "[[grant]]\nuser = 0\n").expect("a configuration");
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        for name in ["keeper-admin.sock", "front-admin.sock"] {
            let open = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(directory.join(name), open).expect("permissions");
        }
        let keeper = sockets.start_keeper();
        let front = sockets.start_front();
        for (to, process) in [("keeper", &keeper), ("front", &front)] {
            let (taken, said) = push(&sockets, STRANGER, to);
            assert!(!taken && said.contains("admin socket"), "{to}: {said}");
            process.expect_error(&STRANGER.to_string());
            let (taken, said) = push(&sockets, 0, to);
            assert!(taken, "{to}: root's is taken: {said}");
        }
    }
}
