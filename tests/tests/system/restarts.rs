//! Processes of the daemon are killed; programs see a code, go on, and need no change for it.

use crate::api::{SERVER, accepted, connected, port, serve};
use crate::many_connections::start_echo;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::echo;
use luassl_tests::lua::{EVERY_LUA, LUA54, LUAJIT};
use luassl_tests::peer;
use luassl_tests::process::signal_pid;
use luassl_tests::{built, pki, scratch, until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[test]
fn a_read_ends_with_the_daemons_code_when_the_front_is_killed() {
    let daemon = Daemon::start();
    for lua in EVERY_LUA {
        let (mut agent, _tls) = connected(&daemon, lua);
        agent.send("return c:read()");
        assert!(!agent.answers_within(Duration::from_millis(100)));
        daemon.kill_front();
        let end = agent.answer();
        assert!(end.starts_with("nil, -4"), "{lua:?}: {end}");
    }
}

#[test]
fn a_listener_goes_on_after_the_front_was_killed() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    let _tls = accepted(&mut agent, port);
    agent.send("return s:accept()");
    daemon.kill_front();
    let end = agent.answer();
    assert!(end.starts_with("nil, ") && end.ends_with(", -4"), "{end}");
    let mut tls = accepted(&mut agent, port);
    tls.write_all(b"hello").expect("a write");
    assert_eq!(agent.run("return c:read()"), "\"hello\"");
}

#[test]
fn an_unchanged_server_accepts_again_within_five_seconds_of_the_fronts_death() {
    let daemon = Daemon::start();
    for (lua, program) in [(LUA54, "echo_select.lua"), (LUAJIT, "echo_poll.lua")] {
        let (mut server, port) = start_echo(&daemon, lua, program);
        echo::echo(&mut peer::connect(port), "before\n").expect("an echo");
        signal_pid(daemon.front(), Signal::KILL);
        let killed = Instant::now();
        let connector = peer::connector(|_| {});
        until("an echo after the front's death", || {
            assert!(server.runs(), "{}", server.transcript());
            peer::try_connect(&connector, port).is_ok_and(|mut tls| echo::echo(&mut tls, "after\n").is_ok())
        });
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    }
}

#[test]
fn a_client_connects_again_after_the_front_was_killed() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let server = peer::Server::start("server", peer::demand_certificate);
    agent.run("c = assert(ssl.wrap('keys/client.pem', 'keys/rootcert.pem'))");
    for _ in 0..2 {
        agent.send(&format!("return c:connect('localhost', {})", server.port()));
        let _tls = server.accept().expect("a handshake");
        assert_eq!(agent.answer(), "true");
        daemon.kill_front();
    }
}

#[test]
fn fifty_connections_go_on_and_no_handshake_fails_while_the_keeper_starts_again() {
    let daemon = Daemon::start();
    let (_server, port) = start_echo(&daemon, LUAJIT, "echo_poll.lua");
    let mut connections = echo::open(port, 50);
    for round in 0..3 {
        signal_pid(daemon.keeper(), Signal::KILL);
        // At once, while there is no keeper yet.
        echo::echo_on_all(&mut echo::open(port, 10), round);
        echo::echo_on_all(&mut connections, round);
    }
}

/// A daemon whose programs lie in a directory of its own, so that its keeper can be taken away.
fn movable_daemon() -> (Daemon, tempfile::TempDir) {
    let programs = scratch();
    for name in ["luassld", "luassl-keeper", "luasslctl"] {
        luassl_tests::copy_file(built("bin").join(name), programs.path().join(name));
    }
    (Daemon::from_programs(programs.path(), &pki::keys()), programs)
}

#[test]
fn without_a_keeper_new_handshakes_fail_by_the_deadline_and_connections_go_on() {
    let (daemon, programs) = movable_daemon();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    std::fs::remove_file(programs.path().join("luassl-keeper")).expect("no keeper");
    signal_pid(daemon.keeper(), Signal::KILL);
    let port = port(&mut agent);

    let start = Instant::now();
    agent.send("return s:accept{report = true}");
    let answer = agent.answer_to(|| assert!(peer::try_connect(&peer::connector(|_| {}), port).is_err()));
    assert!(answer.starts_with("nil, ") && answer.contains(", -4"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());

    tls.write_all(b"still here").expect("a write");
    assert_eq!(agent.run("return c:read()"), "\"still here\"");
    agent.run("c:write('and here')");
    let mut back = [0; 8];
    tls.read_exact(&mut back).expect("eight bytes");
    assert_eq!(&back, b"and here");

    luassl_tests::copy_file(built("bin/luassl-keeper"), programs.path().join("luassl-keeper"));
    let connector = peer::connector(|_| {});
    agent.send("c = assert(s:accept())");
    until("the keeper to come back", || peer::try_connect(&connector, port).is_ok());
    agent.answer();
}

#[test]
fn the_end_of_the_daemon_ends_a_read_and_everything_works_again_with_a_new_one() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    let (mut agent, _tls) = connected(&daemon, LUA54);
    agent.send("return c:read()");
    assert!(!agent.answers_within(Duration::from_millis(100)));
    drop(daemon);
    let end = agent.answer();
    assert!(end.starts_with("nil, "), "{end}");
    let code = agent.run("return (select(2, c:read()))");
    assert_eq!(code, "-4");
    let answer = agent.run("return ssl.wrap('keys/server.pem')");
    assert!(answer.contains(&socket.display().to_string()) && answer.ends_with(", -4"), "{answer}");
}

#[test]
fn sigterm_ends_all_three_processes_cleanly() {
    let mut daemon = Daemon::start();
    let (front, keeper) = (daemon.front(), daemon.keeper());
    daemon.signal(Signal::TERM);
    assert!(daemon.process().wait().success());
    for pid in [front, keeper] {
        until("the children to end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
    assert!(!daemon.socket().exists());
}

#[test]
fn a_supervisor_that_is_killed_takes_its_children_along() {
    let daemon = Daemon::start();
    let (front, keeper) = (daemon.front(), daemon.keeper());
    daemon.signal(Signal::KILL);
    for pid in [front, keeper] {
        until("the children to end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn children_start_with_an_emptied_environment() {
    let daemon = Daemon::start();
    for pid in [daemon.front(), daemon.keeper()] {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("an environment");
        for variable in environment.split(|byte| *byte == 0).filter(|variable| !variable.is_empty()) {
            let text = String::from_utf8_lossy(variable);
            assert!(text.starts_with("LISTEN_"), "{text}");
        }
    }
}
