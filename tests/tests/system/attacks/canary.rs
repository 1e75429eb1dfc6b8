//! Attack 16: what one tenant sends and receives never turns up in another tenant's stream, nor in its process.

use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUAJIT, Lua};
use luassl_tests::needles::Needle;
use luassl_tests::peer::{self, Tls};
use luassl_tests::process::Process;
use luassl_tests::{memory, repository};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::thread;

const TENANTS: [&str; 2] = ["shop", "blog"];
/// Of each tenant, at once.
const CONNECTIONS: usize = 4;
/// Messages of each connection.
const MESSAGES: usize = 60;

/// A front that two tenants share, each by a socket of its own.
fn shared_front() -> Daemon {
    let mut config = "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n".to_owned();
    for tenant in TENANTS {
        config += &format!(
            "[socket.{tenant}]\npath = 'DIR/{tenant}.sock'\n[[grant]]\nsocket = '{tenant}'\nidentities = ['*']\n"
        );
    }
    Daemon::with_config(&config)
}

/// A tenant's echo server, and its port.
fn echo_server(daemon: &Daemon, tenant: &str, lua: Lua) -> (Process, u16) {
    let socket: PathBuf = daemon.directory().join(format!("{tenant}.sock"));
    let mut process =
        Process::start(lua.command_at(&socket).arg(repository().join("tests/lua/echo_poll.lua")));
    let port = process.line().trim().parse().expect("a port");
    (process, port)
}

/// What nobody else has: its beginning tells the tenant, and all of it whose it is and which one.
fn canary(tenant: &str, connection: usize, message: usize) -> Vec<u8> {
    let line = format!("canary of {tenant}, connection {connection}, message {message}; ");
    // From less than a record to several of them.
    line.repeat(1 + (connection * 7 + message * 131) % 900).into_bytes()
}

/// What there is of others' canaries in `bytes`.
fn strangers(bytes: &[u8], tenant: &str) -> Vec<&'static str> {
    let is_in = |other: &&str| memchr::memmem::find(bytes, format!("canary of {other}").as_bytes()).is_some();
    TENANTS.into_iter().filter(|other| *other != tenant).filter(is_in).collect()
}

/// Sends canaries, and looks at every byte that comes back.
fn converse(tls: &mut Tls, tenant: &str, connection: usize) {
    for message in 0..MESSAGES {
        let sent = canary(tenant, connection, message);
        let mut came = vec![0; sent.len()];
        tls.write_all(&sent).expect("written");
        tls.read_exact(&mut came).expect("the echo");
        assert_eq!(strangers(&came, tenant), [""; 0]);
        assert!(came == sent, "{tenant}, connection {connection}, message {message}: another echo");
    }
}

/// Connections that are torn off with data under way: what they leave in a buffer must not reach who has it next.
fn torn_off(port: u16, tenant: &str, connection: usize) {
    for message in 0..MESSAGES / 4 {
        let mut tls = peer::connect(port);
        tls.write_all(&canary(tenant, connection, message)).expect("written");
        // It has not read a byte of the echo: the kernel resets the connection.
        let _ = tls.get_ref().shutdown(Shutdown::Read);
    }
}

fn everybody_at_once(ports: [u16; 2]) {
    thread::scope(|scope| {
        for (tenant, port) in TENANTS.into_iter().zip(ports) {
            for connection in 0..CONNECTIONS {
                scope.spawn(move || converse(&mut peer::connect(port), tenant, connection));
            }
            scope.spawn(move || torn_off(port, tenant, CONNECTIONS));
        }
    });
}

#[test]
fn attack_16_no_tenants_plaintext_is_in_anothers_stream() {
    let daemon = shared_front();
    let servers = TENANTS.map(|tenant| echo_server(&daemon, tenant, LUAJIT));
    everybody_at_once([servers[0].1, servers[1].1]);
}

/// Positive control: two tenants' streams joined by a relay, as a front that mixes them up would.
#[test]
fn attack_16_a_stream_with_anothers_plaintext_is_noticed() {
    let mixed = [canary("shop", 1, 2), canary("blog", 0, 1)].concat();
    assert_eq!(strangers(&mixed, "shop"), ["blog"]);
    assert_eq!(strangers(&canary("shop", 1, 2), "shop"), [""; 0]);
    let daemon = shared_front();
    let (_server, port) = echo_server(&daemon, "blog", LUAJIT);
    // As if the shop's connection had been given to the blog's peer.
    let mut tls = peer::connect(port);
    let astray = thread::spawn(move || converse(&mut tls, "blog", 0)).join();
    assert!(astray.is_ok());
    let mut tls = peer::connect(port);
    tls.write_all(&canary("shop", 0, 0)).expect("written");
    let noticed = thread::spawn(move || converse(&mut tls, "blog", 0)).join();
    assert!(noticed.is_err(), "an echo of the shop's went unnoticed");
}

mod needs_root {
    use super::*;

    fn hits(agent: &Agent, tenant: &str) -> usize {
        let needle = Needle { name: tenant.to_owned(), bytes: format!("canary of {tenant}").into_bytes() };
        memory::scan(agent.pid(), &[needle]).expect("its memory").total()
    }

    /// A tenant's program that has read what its peer sent, and keeps it.
    fn reader(daemon: &Daemon, tenant: &str) -> Agent {
        let mut command = LUAJIT.command_at(&daemon.directory().join(format!("{tenant}.sock")));
        let mut agent = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
        agent.run("ssl = require 'luassl'");
        let port = crate::api::serve(&mut agent, "ssl.wrap('keys/server-p256.pem')");
        agent.send("c = assert(s:accept()) kept = c:read()");
        let mut tls = peer::connect(port);
        tls.write_all(&canary(tenant, 0, 0)).expect("written");
        agent.answer();
        agent
    }

    #[test]
    fn attack_16_no_tenants_plaintext_is_in_anothers_process() {
        let daemon = shared_front();
        let agents = TENANTS.map(|tenant| (tenant, reader(&daemon, tenant)));
        for (tenant, agent) in &agents {
            for (other, _) in &agents {
                // Positive control: its own is there.
                assert_eq!(hits(agent, other) > 0, tenant == other, "{other} in {tenant}'s process");
            }
        }
    }
}
