//! A client or a peer that misbehaves harms itself alone: beside it 50 good connections go on, and as fast.

use crate::many_connections::start_echo;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::echo;
use luassl_tests::lua::{LUA54, LUAJIT};
use luassl_tests::peer::{self, Tls};
use luassl_tests::process::Process;
use luassl_tests::until;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const GOOD: usize = 50;
const ROUNDS: usize = 20;
/// A run on a shared machine may be disturbed by something else; the promise has to hold in one of these.
const ATTEMPTS: usize = 5;

/// Whether the good ones are still served within twice their time without the bad one. None of them may fail.
fn stays_within_twice(connections: &mut [Tls], before: Duration) {
    let mut measured = Vec::new();
    for _ in 0..ATTEMPTS {
        let now = echo::median_latency(connections, ROUNDS);
        if now <= before * 2 {
            return;
        }
        measured.push(now);
    }
    panic!("a median of {before:?} became {measured:?}");
}

/// Echoes on 50 connections, before and beside what `misbehave` starts.
fn beside<T>(misbehave: impl FnOnce(&Daemon, u16) -> T) {
    let daemon = Daemon::start();
    let (_server, port) = start_echo(&daemon, LUAJIT, "echo_poll.lua");
    let mut good = echo::open(port, GOOD);
    let before = echo::median_latency(&mut good, ROUNDS);
    let bad = misbehave(&daemon, port);
    stays_within_twice(&mut good, before);
    // And new ones are still taken.
    echo::echo_on_all(&mut echo::open(port, 5), 1);
    drop(bad);
    stays_within_twice(&mut good, before);
}

fn hostile(daemon: &Daemon, how: &str, port: u16) -> Process {
    let mut process = LUAJIT.run(daemon, "hostile.lua", &[how, &port.to_string()]);
    assert_eq!(process.line(), "ready");
    process
}

mod alone {
    use super::*;

    #[test]
    fn a_client_that_clears_o_nonblock() {
        beside(|daemon, port| {
            // Its peer is an echo server of another program, so that only luassld is shared with the good ones.
            let (other, other_port) = start_echo(daemon, LUAJIT, "echo_poll.lua");
            let _ = port;
            (hostile(daemon, "clears_nonblock", other_port), other)
        });
    }

    #[test]
    fn a_client_that_clears_o_nonblock_on_its_listener() {
        beside(|daemon, port| hostile(daemon, "blocking_listener", port));
    }

    #[test]
    fn a_client_that_never_reads() {
        beside(|daemon, _| {
            let (other, other_port) = start_echo(daemon, LUAJIT, "echo_poll.lua");
            (hostile(daemon, "never_reads", other_port), other)
        });
    }

    #[test]
    fn a_client_that_passes_a_fifo() {
        beside(|daemon, port| hostile(daemon, "passes_a_fifo", port));
    }

    #[test]
    fn peers_that_stall_in_mid_handshake() {
        beside(|daemon, port| hostile(daemon, "stalls", port));
    }

    #[test]
    fn clients_that_send_half_a_frame_or_nothing() {
        beside(|daemon, _| {
            let mut clients: Vec<_> = (0..50).map(|_| control(daemon)).collect();
            for client in clients.iter_mut().step_by(2) {
                client.write_all(&[0, 0, 1, 0, 0x82]).expect("half a frame");
            }
            clients
        });
    }
}

fn control(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("the control socket");
    stream.set_read_timeout(Some(luassl_tests::PATIENCE)).expect("a timeout");
    stream
}

/// Reads until the front closes the connection; what it said before.
fn until_closed(mut stream: UnixStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => said,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => said,
        Err(error) => panic!("the front does not close the connection: {error}"),
    }
}

fn serves(daemon: &Daemon) {
    let mut agent = Agent::start(daemon, LUA54);
    let server = peer::Server::start("server", |_| {});
    agent.run("c = assert(ssl.wrap(nil, 'keys/rootcert.pem'))");
    agent.send(&format!("return c:connect('localhost', {})", server.port()));
    let _tls = server.accept().expect("a handshake");
    assert_eq!(agent.answer(), "true");
}

#[test]
fn a_frame_of_four_gibibytes_is_refused_before_anything_is_allocated() {
    let daemon = Daemon::start();
    let before = resident(daemon.front());
    for _ in 0..20 {
        let mut stream = control(&daemon);
        stream.write_all(&[0xff; 4]).expect("a header");
        until_closed(stream);
    }
    let grown = resident(daemon.front()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    serves(&daemon);
}

#[test]
fn garbage_closes_the_connection_that_sent_it() {
    let daemon = Daemon::start();
    let mut stream = control(&daemon);
    stream.write_all(b"\0\0\0\x10GET / HTTP/1.1\r\n").expect("garbage");
    until_closed(stream);
    serves(&daemon);
}

#[test]
fn half_a_frame_is_dropped_after_the_deadline_for_requests() {
    let daemon = Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[limits]\nrequest = 1\n\
         [[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server', 'client']\n",
    );
    let mut stream = control(&daemon);
    stream.write_all(&[0, 0, 1, 0, 0x82]).expect("half a frame");
    until_closed(stream);
    serves(&daemon);
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let daemon = Daemon::start();
    let front = daemon.front();
    serves(&daemon);
    let before = descriptors(front);
    for _ in 0..20 {
        let stream = control(&daemon);
        send_descriptors(&stream, 8);
        until_closed(stream);
    }
    until("the front to close them", || descriptors(front) <= before + 4);
    serves(&daemon);
}

/// Garbage, with `count` descriptors on it.
fn send_descriptors(stream: &UnixStream, count: usize) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let file = std::fs::File::open("/dev/null").expect("a file");
    let descriptors = vec![file.as_fd(); count];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let bytes = [std::io::IoSlice::new(b"\0\0\0\x04\xc1\xc1\xc1\xc1")];
    sendmsg(stream, &bytes, &mut control, SendFlags::NOSIGNAL).expect("a message");
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Resident memory in bytes.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

#[test]
fn half_a_record_then_silence_ends_by_the_handshakes_deadline() {
    let daemon = Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[limits]\nhandshake = 1\n\
         [[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server', 'client']\n",
    );
    let (_server, port) = start_echo(&daemon, LUAJIT, "echo_poll.lua");
    let mut stream = peer::tcp(port).expect("tcp");
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("half a record");
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    echo::echo(&mut peer::connect(port), "served\n").expect("an echo");
}
