//! LuaSec's programs run over luassl as they are: one suite in Lua, against LuaSec itself and against luassl, and programs
//! of LuaSec's callers.

use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUA51, LUA54, LUAJIT, Lua};
use luassl_tests::process::Process;
use luassl_tests::{echo, peer, pki, repository, scratch};
use openssl::ssl::ShutdownState;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate with alternative names of every kind.
fn certificate_with_names(directory: &Path) -> PathBuf {
    let config = "[req]\ndistinguished_name=dn\nprompt=no\n\
        [dn]\nC=DE\nO=B\u{fc}cher\nCN=names.example\n\
        [ext]\nsubjectAltName=DNS:a.example,DNS:*.b.example,IP:127.0.0.1,email:me@x.example,URI:https://x/y,\
        otherName:1.3.6.1.5.5.7.8.5;UTF8:xmpp.example,otherName:1.3.6.1.5.5.7.8.7;IA5:_xmpp-server.x\n";
    let (config_file, certificate) = (directory.join("names.cnf"), directory.join("names.crt"));
    std::fs::write(&config_file, config).expect("a configuration of openssl");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-new", "-utf8", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-extensions", "ext", "-days", "10", "-set_serial", "0x0a0b0c", "-keyout"])
        .arg(directory.join("names.key"))
        .arg("-out")
        .arg(&certificate)
        .arg("-config")
        .arg(config_file)
        .output()
        .expect("the openssl command");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    certificate
}

/// The development PKI's directory, as programs write it.
fn pki_directory() -> String {
    pki::file("").display().to_string().trim_end_matches('/').to_owned()
}

fn suite_directory() -> PathBuf {
    repository().join("tests/luasec")
}

/// Runs the suite to its end; every test in it has to pass.
fn run_suite(mut command: Command) {
    let directory = scratch();
    let names = certificate_with_names(directory.path());
    command.arg(suite_directory().join("suite.lua")).arg(pki_directory()).arg(names);
    let mut suite = Process::start(&mut command);
    let status = suite.wait();
    assert!(status.success(), "{}", suite.transcript());
}

fn against_luasec(lua: Lua) {
    run_suite(lua.plain_command(&[&suite_directory()]));
}

fn against_luassl(lua: Lua) {
    let daemon = Daemon::with_identities(&pki::file("bare"));
    run_suite(lua.luasec_command(&daemon, &[&suite_directory()]));
}

mod suite {
    use super::{LUA51, LUA54, LUAJIT, against_luasec, against_luassl};

    #[test]
    fn against_luasec_on_lua_5_1() {
        against_luasec(LUA51);
    }
    #[test]
    fn against_luasec_on_lua_5_4() {
        against_luasec(LUA54);
    }
    #[test]
    fn against_luasec_on_luajit() {
        against_luasec(LUAJIT);
    }
    #[test]
    fn against_luassl_on_lua_5_1() {
        against_luassl(LUA51);
    }
    #[test]
    fn against_luassl_on_lua_5_4() {
        against_luassl(LUA54);
    }
    #[test]
    fn against_luassl_on_luajit() {
        against_luassl(LUAJIT);
    }
}

/// A program of tests/luasec over luassl.
fn program(daemon: &Daemon, lua: Lua, name: &str, arguments: &[&str]) -> Process {
    let mut command = lua.luasec_command(daemon, &[&suite_directory()]);
    Process::start(command.arg(suite_directory().join(name)).args(arguments))
}

#[test]
fn ten_thousand_wraps_leave_no_descriptor_behind() {
    let daemon = Daemon::with_identities(&pki::file("bare"));
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.front())).map_or(0, Iterator::count);
    let before = open();
    let mut many = program(&daemon, LUA54, "many_wraps.lua", &[&pki_directory(), "10000"]);
    let status = many.wait();
    assert!(status.success(), "{}", many.transcript());
    luassl_tests::until("the front to close what was collected", || open() <= before + 2);
}

/// A server that forks, with LuaSec (without a daemon) or luassl. Debian has lua-posix for Lua 5.1 and LuaJIT.
fn prefork(lua: Lua, daemon: Option<&Daemon>) {
    let directory = suite_directory();
    let mut command = match daemon {
        Some(daemon) => lua.luasec_command(daemon, &[&directory]),
        None => lua.plain_command(&[&directory]),
    };
    command.arg(directory.join("prefork.lua")).args([&*pki_directory(), "4", "10"]);
    let mut program = Process::start(&mut command);
    let status = program.wait();
    assert!(status.success(), "{}", program.transcript());
    program.expect("children and parent");
}

#[test]
fn a_server_of_luasec_forks() {
    prefork(LUA51, None);
}

#[test]
fn a_server_forks_and_both_go_on_with_contexts_of_before() {
    for lua in [LUA51, LUAJIT] {
        let daemon = Daemon::with_identities(&pki::file("bare"));
        prefork(lua, Some(&daemon));
    }
}

/// A server that echoes lines, and its port.
fn echo_server(daemon: &Daemon) -> (Process, u16) {
    let mut server = program(daemon, LUA54, "echo.lua", &[&pki_directory()]);
    let port = server.line().trim().parse().expect("a port");
    (server, port)
}

#[test]
fn a_killed_program_ends_tcp_without_close_notify() {
    let daemon = Daemon::with_identities(&pki::file("bare"));
    let (server, port) = echo_server(&daemon);
    let mut client = peer::connect(port);
    echo::echo(&mut client, "before\n").expect("an echo");
    server.signal(Signal::KILL);
    let mut rest = Vec::new();
    let ended = client.read_to_end(&mut rest);
    assert!(ended.is_err() || rest.is_empty());
    assert!(!client.get_shutdown().contains(ShutdownState::RECEIVED), "a close_notify of nobody's");
}

#[test]
fn connections_of_a_front_that_died_are_closed_and_the_next_are_not() {
    let daemon = Daemon::with_identities(&pki::file("bare"));
    let (server, port) = echo_server(&daemon);
    let mut client = peer::connect(port);
    echo::echo(&mut client, "before\n").expect("an echo");
    daemon.kill_front();
    // Whether this still goes out is no matter: it wakes the server, which finds the front gone.
    let _ = client.write_all(b"after\n");
    server.expect("closed\n");
    drop(client);
    echo::echo(&mut peer::connect(port), "again\n").expect("an echo of the next front");
}

/// Needs a copas of 4.11 with what it requires (timerwheel, binaryheap): `LUASSL_COPAS` names the root of a checkout or of
/// a luarocks tree.
mod needs_copas {
    use super::{Daemon, LUA54, Process, pki, pki_directory, suite_directory};
    use std::path::PathBuf;

    fn directories() -> Vec<PathBuf> {
        let root = std::env::var("LUASSL_COPAS").expect("LUASSL_COPAS names a checkout of copas");
        let root = PathBuf::from(root);
        vec![suite_directory(), root.join("src"), root.join("share/lua/5.4"), root]
    }

    #[test]
    fn many_clients_and_a_server_of_copas_talk() {
        let daemon = Daemon::with_identities(&pki::file("bare"));
        let directories = directories();
        let paths: Vec<_> = directories.iter().map(|path| &**path).collect();
        let mut command = LUA54.luasec_command(&daemon, &paths);
        command.arg(suite_directory().join("copas_many.lua")).args([&*pki_directory(), "100"]);
        let mut program = Process::start(&mut command);
        let status = program.wait();
        assert!(status.success(), "{}", program.transcript());
        program.expect("100 of 100");
    }
}
