//! LuaSSL's quickstart, and the promise that comes with it: the key is in no process that runs Lua or reads the
//! network.

use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUA54, Lua};
use luassl_tests::process::Process;
use luassl_tests::{memory, needles, peer, pki, repository, until};
use std::net::{Ipv4Addr, TcpListener};

on_every_lua! { server_prints_what_client_writes }

/// Starts a program of the quickstart as its manual says, on a port of the test's own.
fn start(daemon: &Daemon, lua: Lua, program: &str, port: u16) -> Process {
    let path = repository().join("examples/quickstart").join(program);
    Process::start(lua.command(daemon).args(["-l", "luassl.classic"]).arg(path).arg(port.to_string()))
}

fn start_server(daemon: &Daemon, lua: Lua) -> (Process, u16) {
    let port = free_port();
    let mut server = start(daemon, lua, "server.lua", port);
    until("the quickstart's server to listen", || {
        assert!(server.runs(), "{}", server.transcript());
        peer::tcp(port).is_ok()
    });
    (server, port)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn server_prints_what_client_writes(lua: Lua) {
    let daemon = Daemon::start();
    let (server, port) = start_server(&daemon, lua);
    for round in 1..=2 {
        let mut client = start(&daemon, lua, "client.lua", port);
        client.write(format!("first line {round}\nsecond line {round}\n"));
        client.close_input();
        client.finish();
        server.expect(&format!("first line {round}\nsecond line {round}\n"));
    }
}

#[test]
fn server_talks_to_openssl_s_client() {
    let daemon = Daemon::start();
    let (server, port) = start_server(&daemon, LUA54);
    let mut client = peer::s_client(port, &["-quiet"]);
    client.write("from s_client\n");
    server.expect("from s_client\n");
    client.close_input();
}

#[test]
fn client_talks_to_openssl_s_server() {
    let daemon = Daemon::start();
    let (server, port) = peer::s_server("server", &[]);
    let mut client = start(&daemon, LUA54, "client.lua", port);
    client.write("to s_server\n");
    server.expect("to s_server");
    client.close_input();
    client.finish();
}

#[test]
fn a_last_line_before_the_client_ends_is_never_lost() {
    let daemon = Daemon::start();
    let (server, port) = start_server(&daemon, LUA54);
    for round in 0..50 {
        let mut client = start(&daemon, LUA54, "client.lua", port);
        client.write(format!("last words {round}\n"));
        client.close_input();
        client.finish();
        server.expect(&format!("last words {round}\n"));
    }
}

#[test]
fn the_key_is_in_no_lua_process_and_not_in_the_front() {
    let daemon = Daemon::start();
    let (server, port) = start_server(&daemon, LUA54);
    let mut client = start(&daemon, LUA54, "client.lua", port);
    client.write("a line\n");
    server.expect("a line\n");
    for name in ["server", "client"] {
        let key = std::fs::read(pki::file(&format!("keys/{name}.pem"))).expect("the key's file");
        let needles = needles::of_pem(&key).expect("a key");
        for pid in [server.pid(), client.pid()] {
            let scan = memory::scan(pid, &needles).expect("its memory");
            assert_eq!(scan.total(), 0, "{name} in {pid}: {scan:?}");
        }
        match memory::scan(daemon.front(), &needles) {
            Ok(scan) => assert_eq!(scan.total(), 0, "{name} in the front: {scan:?}"),
            // The kernel lets nobody but root look.
            Err(error) => {
                assert!(!rustix::process::geteuid().is_root(), "{error}");
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            }
        }
    }
}

#[test]
fn the_same_search_finds_the_key_in_openssl_s_server() {
    for name in pki::KEY_TYPES.map(|kind| format!("server-{kind}")) {
        let (server, port) = peer::s_server(&name, &[]);
        drop(peer::connect(port));
        let key = std::fs::read(pki::file(&format!("keys/{name}.pem"))).expect("the key's file");
        let scan = memory::scan(server.pid(), &needles::of_pem(&key).expect("a key")).expect("its memory");
        assert!(scan.total() > 0, "{name}: {scan:?}");
    }
}
