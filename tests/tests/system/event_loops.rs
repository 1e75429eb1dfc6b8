//! The examples of docs/event-loops.md: programs on other event loops.

use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUA51, LUA54, LUAJIT, Lua};
use luassl_tests::nginx::Nginx;
use luassl_tests::process::Process;
use luassl_tests::{echo, peer, pki, repository};
use openssl::ssl::ShutdownState;
use std::io::{Read, Write};
use std::process::Command;

const IDENTITY: &str = "keys/server-p256.pem";

fn command(daemon: &Daemon, lua: Lua, name: &str) -> Command {
    let mut command = lua.command(daemon);
    command.arg(repository().join("examples/event-loops").join(name));
    command
}

fn port_of(server: &mut Process) -> u16 {
    server.line().trim().parse().expect("a port")
}

/// Clients at the same time, one of them with more than any buffer has room for, and a clean end.
fn talk_to_echo_server(mut command: Command) {
    let mut server = Process::start(command.args([IDENTITY, "0"]));
    let port = port_of(&mut server);
    let mut clients: Vec<_> = (0..5).map(|_| peer::connect(port)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        echo::echo(client, &format!("line {number}\n")).unwrap_or_else(|error| {
            panic!("{error}\n{}", server.transcript());
        });
    }
    let mut large = peer::connect(port);
    let lines = "a line of the large piece\n".repeat(40_000);
    for piece in lines.as_bytes().chunks(10_400) {
        large.write_all(piece).expect("a write");
        let mut back = vec![0; piece.len()];
        large.read_exact(&mut back).expect("an echo");
        assert_eq!(back, piece);
    }
    for mut client in clients {
        client.shutdown().expect("a close_notify");
        assert_eq!(client.read(&mut [0]).expect("a clean end"), 0, "{}", server.transcript());
        assert!(client.get_shutdown().contains(ShutdownState::RECEIVED));
    }
    assert!(server.runs(), "{}", server.transcript());
}

#[test]
fn an_echo_server_on_cqueues() {
    for lua in [LUA51, LUA54, LUAJIT] {
        let daemon = Daemon::start();
        talk_to_echo_server(command(&daemon, lua, "cqueues.lua"));
    }
}

#[test]
fn an_echo_server_on_luv() {
    for lua in [LUA51, LUA54, LUAJIT] {
        let daemon = Daemon::start();
        talk_to_echo_server(command(&daemon, lua, "luv.lua"));
    }
}

/// By curl, which is to have HTTP of this version.
fn fetched(port: u16, version: &str) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", version, "-w", "%{http_version}", "--cacert"])
        .arg(pki::file("ca/root.crt"))
        .arg(format!("https://localhost:{port}/a/path"))
        .output()
        .expect("curl");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Debian has lua-http for Lua 5.1 and LuaJIT.
#[test]
fn an_http_server_of_lua_http() {
    let daemon = Daemon::start();
    let mut server = Process::start(command(&daemon, LUAJIT, "lua-http.lua").args(["serve", IDENTITY, "0"]));
    let port = port_of(&mut server);
    assert_eq!(fetched(port, "--http1.1"), "you asked for /a/path\n1.1", "{}", server.transcript());
    assert_eq!(fetched(port, "--http2"), "you asked for /a/path\n2", "{}", server.transcript());
}

#[test]
fn an_http_client_of_lua_http() {
    let daemon = Daemon::start();
    let nginx = Nginx::start(
        "ssl_certificate PKI/keys/server.pem; ssl_certificate_key PKI/keys/server.pem;
         server { listen 127.0.0.1:PORT0 ssl; location = / { return 200 one\\n; } }
         server { listen 127.0.0.1:PORT1 ssl http2; location = / { return 200 two\\n; } }",
    );
    for (port, said) in nginx.ports.iter().zip(["1.1\t200\none\n", "2\t200\ntwo\n"]) {
        let mut client = command(&daemon, LUAJIT, "lua-http.lua");
        client.args(["get", "localhost", &port.to_string()]).arg(pki::file("ca/root.crt"));
        assert_eq!(Process::start(&mut client).finish(), said);
    }
}

/// As `luasec::needs_copas`.
mod needs_copas {
    use super::{Daemon, LUA54, command, talk_to_echo_server};

    #[test]
    fn an_echo_server_on_copas() {
        let root = std::env::var("LUASSL_COPAS").expect("LUASSL_COPAS names a checkout of copas");
        let daemon = Daemon::start();
        let mut command = command(&daemon, LUA54, "copas.lua");
        let path = command.get_envs().find(|(name, _)| *name == "LUA_PATH").and_then(|(_, value)| value);
        let path = path.expect("a path").to_string_lossy().into_owned();
        let own = ["src", "share/lua/5.4", "."]
            .map(|place| format!("{root}/{place}/?.lua;{root}/{place}/?/init.lua;"));
        command.env("LUA_PATH", own.concat() + &path);
        talk_to_echo_server(command);
    }
}
