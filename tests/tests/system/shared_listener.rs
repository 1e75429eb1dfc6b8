//! Three Lua processes share one listener: each gets its part, none of the connections is lost, and the loss of one
//! process is the loss of its own connections alone.

use crate::api::{accepted, text};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUAJIT;
use luassl_tests::peer::{self, Tls};
use luassl_tests::process::{Process, children, signal_pid};
use openssl::ssl::{ErrorCode, ShutdownState};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

const CONNECTIONS: usize = 300;
const FAIR: usize = 50;

/// Workers that share a listener; connections by the process id of the worker that took them.
struct Shared {
    _daemon: Daemon,
    _processes: Vec<Process>,
    workers: Vec<u32>,
    port: u16,
}

/// Three processes that name a listener of the configuration.
fn configured(how: &str) -> Shared {
    let port = free_port();
    let daemon = Daemon::with_config(&format!(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[listener.web]\n\
         address = '127.0.0.1:{port}'\n[[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server']\n\
         listeners = ['web']\n"
    ));
    let mut processes: Vec<_> = (0..3).map(|_| LUAJIT.run(&daemon, "worker.lua", &[how, "web"])).collect();
    for process in &mut processes {
        assert_eq!(process.line(), "serving");
    }
    let workers = processes.iter().map(Process::pid).collect();
    Shared { _daemon: daemon, _processes: processes, workers, port }
}

/// Three processes forked from the one that listens.
fn passed(how: &str) -> Shared {
    let daemon = Daemon::start();
    let mut parent = LUAJIT.run(&daemon, "worker.lua", &[how]);
    let port = parent.line().parse().expect("a port");
    let workers = children(parent.pid());
    assert_eq!(workers.len(), 3, "{}", parent.transcript());
    Shared { _daemon: daemon, _processes: vec![parent], workers, port }
}

/// The process id that a worker says on a connection that it took.
fn taken_by(tls: &mut Tls) -> u32 {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        tls.read_exact(&mut byte).expect("the worker's line");
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line);
    line.trim().strip_prefix("worker ").and_then(|pid| pid.parse().ok()).expect("a process id")
}

impl Shared {
    fn open(&self, count: usize) -> BTreeMap<u32, Vec<Tls>> {
        let connector = peer::connector(|_| {});
        let mut held: BTreeMap<u32, Vec<Tls>> = BTreeMap::new();
        for _ in 0..count {
            let mut tls = peer::connect_with(&connector, self.port);
            held.entry(taken_by(&mut tls)).or_default().push(tls);
        }
        held
    }

    fn serves_fairly(&self) -> BTreeMap<u32, Vec<Tls>> {
        let held = self.open(CONNECTIONS);
        let counts: Vec<_> = held.values().map(Vec::len).collect();
        assert_eq!(counts.iter().sum::<usize>(), CONNECTIONS);
        assert_eq!(counts.len(), 3, "{counts:?}");
        assert!(counts.iter().all(|count| *count >= FAIR), "{counts:?}");
        held
    }

    /// Stops one worker, so that what is dealt to it stays untaken; kills it; and looks at everybody's connections.
    fn loses_only_its_own(&self, victim: u32, mut held: BTreeMap<u32, Vec<Tls>>) {
        signal_pid(victim, Signal::STOP);
        let connector = peer::connector(|_| {});
        let mut waiting: Vec<_> = (0..9).map(|_| peer::connect_with(&connector, self.port)).collect();
        signal_pid(victim, Signal::KILL);
        for tls in &mut waiting {
            let worker = taken_by(tls);
            assert_ne!(worker, victim);
        }
        for tls in held.remove(&victim).unwrap_or_default() {
            assert_cut(tls);
        }
        for tls in held.values_mut().flatten() {
            assert_open(tls);
        }
    }
}

/// The peer's side has ended, and not cleanly.
fn assert_cut(mut tls: Tls) {
    let mut buffer = [0; 16];
    match tls.ssl_read(&mut buffer) {
        Err(error) => assert_ne!(error.code(), ErrorCode::ZERO_RETURN, "a clean close"),
        Ok(count) => panic!("{count} bytes in place of an end"),
    }
    assert!(!tls.get_shutdown().contains(ShutdownState::RECEIVED));
}

fn assert_open(tls: &mut Tls) {
    tls.get_ref().set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let error = tls.read(&mut [0; 16]).expect_err("nothing to read");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
}

#[test]
fn a_configured_listener_with_blocking_accept() {
    let shared = configured("accept");
    let held = shared.serves_fairly();
    shared.loses_only_its_own(shared.workers[0], held);
}

#[test]
fn a_configured_listener_with_poll() {
    let shared = configured("poll");
    let held = shared.serves_fairly();
    shared.loses_only_its_own(shared.workers[1], held);
}

#[test]
fn a_passed_listener_with_blocking_accept() {
    let shared = passed("accept");
    let held = shared.serves_fairly();
    shared.loses_only_its_own(shared.workers[2], held);
}

#[test]
fn a_passed_listener_with_poll() {
    let shared = passed("poll");
    let held = shared.serves_fairly();
    shared.loses_only_its_own(shared.workers[0], held);
}

/// A free port of this machine.
fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    socket.and_then(|socket| socket.local_addr()).expect("a port").port()
}

fn web_on(port: u16) -> String {
    format!(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[listener.web]\n\
         address = '127.0.0.1:{port}'\n[[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server']\n\
         listeners = ['*']\n"
    )
}

/// Writes another configuration, and has it read.
fn reload(daemon: &Daemon, config: &str) {
    let config = luassl_tests::daemon::fill_in(config, daemon.directory());
    std::fs::write(daemon.directory().join("luassl.toml"), config).expect("a configuration");
    daemon.signal(Signal::HUP);
}

#[test]
fn a_listener_whose_address_a_reload_changes_accepts_there_and_no_longer_here() {
    let [here, there] = [free_port(), free_port()];
    let daemon = Daemon::with_config(&web_on(here));
    let mut agent = Agent::start(&daemon, LUAJIT);
    agent.run("s = assert(ssl.wrap('server')) assert(s:bind{listener = 'web'})");
    let mut before = accepted(&mut agent, here);
    agent.run("before = c");
    reload(&daemon, &web_on(there));
    luassl_tests::until("the old address to be free", || peer::tcp(here).is_err());
    let mut after = accepted(&mut agent, there);
    for (connection, tls) in [("before", &mut before), ("c", &mut after)] {
        agent.run(&format!("{connection}:write('on')"));
        assert_eq!(text(tls), "on", "{connection}");
    }
}

#[test]
fn a_listener_that_a_reload_takes_away_ends_and_says_so() {
    let port = free_port();
    let daemon = Daemon::with_config(&web_on(port));
    let mut agent = Agent::start(&daemon, LUAJIT);
    agent.run("s = assert(ssl.wrap('server')) assert(s:bind{listener = 'web'})");
    let _connection = accepted(&mut agent, port);
    let without = web_on(port).replace(&format!("[listener.web]\naddress = '127.0.0.1:{port}'\n"), "");
    agent.send("return s:accept()");
    reload(&daemon, &without);
    assert!(agent.answer().ends_with(", -4"));
    luassl_tests::until("the address to be free", || peer::tcp(port).is_err());
    let answer = agent.run("return s:accept()");
    assert!(answer.starts_with("nil, ") && answer.contains("web"), "{answer}");
}
