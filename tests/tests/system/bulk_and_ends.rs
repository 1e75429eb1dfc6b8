//! No byte is lost or changed, and every end is told from every other: in both directions, with data in flight.

use crate::api::{SERVER, accepted, connected, serve, text};
use crate::many_connections::start_echo;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::echo::Checksum;
use luassl_tests::lua::{LUA54, LUAJIT};
use luassl_tests::peer::{self, Tls};
use luassl_tests::process::Process;
use openssl::ssl::{ErrorCode, ShutdownState};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::time::Duration;

/// One gibibyte.
const BULK: u64 = 1 << 30;
/// More than the buffers of a TCP connection and of a Unix socket hold together.
const IN_FLIGHT: usize = 300_000;
/// For a gibibyte.
const BULK_PATIENCE: Duration = Duration::from_secs(120);

/// Count, checksum and end, as the Lua program says.
fn report(server: &mut Process) -> (u64, u32, i32) {
    let line = server.line_within(BULK_PATIENCE);
    let words: Vec<_> = line.split(' ').collect();
    let [count, sum, code] = words[..] else { panic!("{line}") };
    (count.parse().expect("a count"), sum.parse().expect("a checksum"), code.parse().expect("a code"))
}

/// Bytes that repeat at no power of two.
fn pattern() -> Vec<u8> {
    (0..251_u8).cycle().take(251 * 523).collect()
}

pub(crate) mod alone {
    use super::*;

    #[test]
    fn lua_receives_a_gibibyte() {
        let daemon = Daemon::start();
        let mut server = LUAJIT.run(&daemon, "bulk.lua", &["receive"]);
        let mut tls = peer::connect(server.line().parse().expect("a port"));
        let (block, mut sum) = (pattern(), Checksum::default());
        while sum.count < BULK {
            let size = usize::try_from(BULK - sum.count).map_or(block.len(), |left| left.min(block.len()));
            tls.write_all(&block[..size]).expect("a write");
            sum.add(&block[..size]);
        }
        tls.shutdown().expect("a clean close");
        assert_eq!(report(&mut server), (sum.count, sum.value(), 0));
    }

    #[test]
    fn lua_sends_a_gibibyte() {
        let daemon = Daemon::start();
        let mut server = LUAJIT.run(&daemon, "bulk.lua", &["send", &BULK.to_string()]);
        let mut tls = peer::connect(server.line().parse().expect("a port"));
        let (mut buffer, mut sum) = (vec![0; 64 * 1024], Checksum::default());
        loop {
            let count = tls.read(&mut buffer).expect("a read");
            if count == 0 {
                break;
            }
            sum.add(&buffer[..count]);
        }
        assert!(tls.get_shutdown().contains(ShutdownState::RECEIVED));
        let _ = tls.shutdown();
        assert_eq!(report(&mut server), (BULK, sum.value(), 0));
        assert_eq!(sum.count, BULK);
    }
}

/// Reads in Lua until the end; gives the number of bytes and the code.
const DRAIN: &str = "local total = 0 while true do local data, code = c:read() \
                     if not data then return total, code end total = total + #data end";

/// A server in which the peer's data waits unread.
fn with_data_in_flight(tls: &mut Tls) {
    tls.write_all(&vec![b'x'; IN_FLIGHT]).expect("a write");
}

#[test]
fn lua_sees_the_peers_clean_close_after_all_data() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    with_data_in_flight(&mut tls);
    let _ = tls.shutdown();
    tls.get_ref().shutdown(std::net::Shutdown::Write).expect("a half-close");
    assert_eq!(agent.run(DRAIN), format!("{IN_FLIGHT}, 0"));
    // Not before: session tickets lie unread in this socket, and its close would reset the connection.
    drop(tls);
}

#[test]
fn lua_sees_the_peers_cut_connection_after_all_data() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    with_data_in_flight(&mut tls);
    tls.get_ref().shutdown(std::net::Shutdown::Write).expect("a cut");
    assert_eq!(agent.run(DRAIN), format!("{IN_FLIGHT}, -3"));
}

#[test]
fn lua_sees_a_reset_as_a_cut() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    tls.write_all(b"some").expect("a write");
    assert_eq!(agent.run("return c:read()"), "\"some\"");
    agent.run("c:write('unread by the peer')");
    rustix::net::sockopt::set_socket_linger(tls.get_ref(), Some(Duration::ZERO)).expect("an option");
    drop(tls);
    assert_eq!(agent.run(DRAIN), "0, -3");
}

/// Everything until the end, and whether it was a clean one.
fn drain(tls: &mut Tls) -> (usize, bool) {
    let (mut total, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        match tls.ssl_read(&mut buffer) {
            Ok(count) => total += count,
            Err(error) => return (total, error.code() == ErrorCode::ZERO_RETURN),
        }
    }
}

#[test]
fn the_peer_sees_luas_clean_close_after_all_data() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    agent.send(&format!("c:write(('x'):rep({IN_FLIGHT})) return c:shutdown()"));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(drain(&mut tls), (IN_FLIGHT, true));
    let _ = tls.shutdown();
    assert_eq!(agent.answer(), "true");
}

#[test]
fn the_peer_sees_luas_killed_process_as_a_cut_after_all_data() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    // As much as is taken without a reader on the other side.
    agent.run(&format!("c:settimeout(1) return c:write(('x'):rep({}))", IN_FLIGHT / 3));
    agent.process().signal(Signal::KILL);
    agent.process().wait();
    assert_eq!(drain(&mut tls), (IN_FLIGHT / 3, false));
}

#[test]
fn the_peer_sees_a_collected_connection_as_a_cut() {
    let daemon = Daemon::start();
    for lua in luassl_tests::lua::EVERY_LUA {
        let (mut agent, mut tls) = connected(&daemon, lua);
        agent.run("c:write('before')");
        agent.run("c = nil s = nil collectgarbage() collectgarbage()");
        assert_eq!(text(&mut tls), "before");
        assert_eq!(drain(&mut tls), (0, false), "{lua:?}");
    }
}

#[test]
fn what_lua_writes_after_the_peers_close_still_reaches_it() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    let _ = tls.shutdown();
    let end = agent.run("return c:read()");
    assert!(end.starts_with("nil, 0"), "{end}");
    assert_eq!(agent.run("return c:write('late words')"), "");
    agent.send("return c:shutdown()");
    assert_eq!(drain(&mut tls), ("late words".len(), true));
    assert_eq!(agent.answer(), "true");
}

#[test]
fn a_shutdown_to_a_peer_that_does_not_answer_is_bounded() {
    let daemon = Daemon::start();
    let (mut agent, _tls) = connected(&daemon, LUA54);
    agent.run("c:settimeout(1)");
    agent.send("c:shutdown() return 'back'");
    assert_eq!(agent.answer(), "\"back\"");
}

#[test]
fn one_slow_connection_does_not_hold_up_another() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    let _never_reads = accepted(&mut agent, port);
    agent.run("slow = c slow:settimeout(0.2) while not slow:write(('x'):rep(100000)) do end");
    let mut tls = accepted(&mut agent, port);
    agent.run("c:write('quick')");
    assert_eq!(text(&mut tls), "quick");
}

#[test]
fn partial_writes_without_blocking_lose_nothing() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    let chunk = "c:settimeout(0) local data = ('0123456789'):rep(100000) local sent = 0 \
                 for n = 1, 1000 do local code, _, taken = c:write(data:sub(sent + 1)) \
                 if not code then return #data end sent = sent + taken \
                 if code ~= -2 then return code end if n > 20 then c:settimeout(0.05) end end return sent";
    agent.send(chunk);
    let mut all = vec![0; 1_000_000];
    tls.read_exact(&mut all).expect("everything");
    assert!(all.chunks(10).all(|chunk| chunk == b"0123456789"));
    assert_eq!(agent.answer(), "1000000");
}

#[test]
fn a_sudden_end_of_many_peers_leaves_the_server_serving() {
    let daemon = Daemon::start();
    let (_server, port) = start_echo(&daemon, LUA54, "echo_select.lua");
    for _ in 0..100 {
        let tls = peer::connect(port);
        rustix::net::sockopt::set_socket_linger(tls.get_ref(), Some(Duration::ZERO)).expect("an option");
    }
    luassl_tests::echo::echo(&mut peer::connect(port), "still here\n").expect("an echo");
}
