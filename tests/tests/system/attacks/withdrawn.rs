//! A grant that is withdrawn is withdrawn from what is open, too.

use crate::api::{accepted, serve, text};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::{Daemon, fill_in};
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{self, Tls};
use luassl_tests::process::Process;
use luassl_tests::{built, echo, pki, repository, until};
use openssl::ssl::ShutdownState;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::process::Command;

const TENANT: &str = "[[grant]]\nsocket = 'tenant'\nidentities = ['site']\n";
const NEIGHBOUR: &str = "[[grant]]\nsocket = 'neighbour'\nidentities = ['site']\n";

const STRANGER: &str = "[[grant]]\nuser = 54321\nidentities = ['*']\n";

/// A configuration with two control sockets, and these grants.
fn config(grants: &str) -> String {
    format!(
        "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/keys/server.pem'\n[socket.tenant]\n\
         path = 'DIR/tenant.sock'\n[socket.neighbour]\npath = 'DIR/neighbour.sock'\n{grants}"
    )
}

fn reload(daemon: &Daemon, config: &str, serial: u32) {
    let text = fill_in(config, daemon.directory());
    std::fs::write(daemon.directory().join("luassl.toml"), text).expect("a configuration");
    daemon.signal(Signal::HUP);
    daemon.expect_log(&format!("keeper and fronts serve configuration {serial}"));
}

/// A program on a named control socket.
fn program(daemon: &Daemon, socket: &str) -> Agent {
    let mut command = LUA54.command_at(&daemon.directory().join(format!("{socket}.sock")));
    let mut agent = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
    agent.run("ssl = require 'luassl'");
    agent
}

fn assert_open(agent: &mut Agent, tls: &mut Tls) {
    assert_eq!(agent.run("return c:write('on')"), "");
    assert_eq!(text(tls), "on");
    tls.write_all(b"and back\n").expect("a write");
    assert_eq!(agent.run("return c:read()"), "\"and back\\010\"");
}

/// Both ends see the end of a connection, and neither a close_notify.
fn assert_ended(agent: &mut Agent, tls: &mut Tls) {
    assert!(!matches!(tls.read(&mut [0; 16]), Ok(1..)));
    assert!(!tls.get_shutdown().contains(ShutdownState::RECEIVED), "no close_notify");
    let end = agent.run("return c:read()");
    assert!(end.starts_with("nil, -6, "), "{end}");
}

fn status(daemon: &Daemon) -> String {
    let mut command = Command::new(built("bin/luasslctl"));
    let output = command.args(["status", "--socket"]).arg(daemon.socket()).output().expect("luasslctl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn finding_withdrawn_grants_end_open_connections_of_their_owner_alone() {
    let daemon = Daemon::with_config(&config(&[TENANT, NEIGHBOUR].concat()));
    let (mut tenant, mut neighbour) = (program(&daemon, "tenant"), program(&daemon, "neighbour"));
    let (port, other_port) =
        (serve(&mut tenant, "ssl.wrap('site')"), serve(&mut neighbour, "ssl.wrap('site')"));
    let (mut tls, mut other) = (accepted(&mut tenant, port), accepted(&mut neighbour, other_port));
    let mut untaken = peer::connect(port);
    let shown = |socket: &str, untaken: &str| {
        let table = status(&daemon);
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.any(|row| row.len() > 10 && row[1] == socket && (row[4], row[5]) == (untaken, "1"))
    };
    until("all to be shown as open", || shown("tenant", "1") && shown("neighbour", "0"));

    // A reload that changes nothing for them, though the front gets a push, ends nothing.
    reload(&daemon, &config(&[TENANT, NEIGHBOUR, STRANGER].concat()), 2);
    assert_open(&mut tenant, &mut tls);
    assert_open(&mut neighbour, &mut other);

    reload(&daemon, &config(NEIGHBOUR), 3);
    daemon.expect_log("2 open connections of uid");
    daemon.expect_log("a listener of uid");
    assert_ended(&mut tenant, &mut tls);
    assert!(!matches!(untaken.read(&mut [0; 16]), Ok(1..)), "what nobody has taken ends, too");
    assert!(tenant.run("return s:accept()").starts_with("nil"), "and the listener");
    assert_open(&mut neighbour, &mut other);
}

#[test]
fn finding_withdrawn_a_raised_floor_ends_what_is_below_it() {
    let daemon = Daemon::with_config(&config(NEIGHBOUR));
    let mut agents = [program(&daemon, "neighbour"), program(&daemon, "neighbour")];
    let mut ends = Vec::new();
    for (agent, version) in agents.iter_mut().zip(["TLSv1.2", "TLSv1.3"]) {
        let port = serve(agent, "ssl.wrap('site')");
        agent.send("c = assert(s:accept())");
        let connector = peer::connector(|builder| peer::only(builder, version));
        ends.push(peer::connect_with(&connector, port));
        agent.answer();
    }
    reload(&daemon, &config(&format!("{NEIGHBOUR}minimum_protocol = 'TLSv1.3'\n")), 2);
    daemon.expect_log("its protocol version is below the grant's minimum_protocol");
    assert_ended(&mut agents[0], &mut ends[0]);
    assert_open(&mut agents[1], &mut ends[1]);
}

#[test]
fn finding_withdrawn_a_connection_in_lock_step_ends_too() {
    let start = "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/bare'\n";
    let granted = format!("{start}[[grant]]\nuser = UID\nidentities = ['*']\n");
    let daemon = Daemon::with_config(&granted);
    let programs = repository().join("tests/luasec");
    let mut command = LUA54.luasec_command(&daemon, &[&programs]);
    command.arg(programs.join("echo.lua")).arg(pki::file("").display().to_string().trim_end_matches('/'));
    let mut server = Process::start(&mut command);
    let port = server.line().trim().parse().expect("a port");
    let mut client = peer::connect(port);
    echo::echo(&mut client, "before\n").expect("an echo");
    reload(&daemon, &[&granted, STRANGER].concat(), 2);
    echo::echo(&mut client, "after a reload that takes nothing away\n").expect("an echo");
    reload(&daemon, &[start, STRANGER].concat(), 3);
    daemon.expect_log("1 open connection of uid");
    assert!(!matches!(client.read(&mut [0; 16]), Ok(1..)));
    assert!(!client.get_shutdown().contains(ShutdownState::RECEIVED), "no close_notify");
    assert!(!server.line().is_empty(), "the program has learnt it from its next question");
}

#[test]
fn the_status_of_a_daemon_that_is_not_there_says_so() {
    let output = Command::new(built("bin/luasslctl"))
        .args(["status", "--socket", "/no/such/luassl.sock"])
        .output()
        .expect("luasslctl");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--socket PATH"));
}
