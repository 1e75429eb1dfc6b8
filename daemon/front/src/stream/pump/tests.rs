//! Guarantees of a pumped connection, with OpenSSL as the peer and a Unix socket as Lua's.

use crate::runtime::connection::Command;
use crate::tests::{
    peers::{BOUND, on_the_way, tcp_pair},
    rig::{Ended, PATIENCE, Rig, cut, pattern, read_lua, read_peer, tell},
};
use luassl_protocol::{ContextSpec, ErrorCode, ProtocolVersion, Role};
use luassl_tls::Exclusive;
use luassl_tls::kit::{
    pki::{Authority, Kind},
    signer::signer,
    world::{World, of},
};
use openssl::ssl::SslStream;
use openssl::ssl::{ErrorCode as SslCode, SslVersion};
use rustix::net::sockopt;
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;

/// The number of bytes that one side writes in a test of bulk data.
const BULK: usize = 6 * MIB;

/// A number of bytes that exceeds the capacity of Lua's socket, but not that of this socket and the front together.
const MUCH: usize = 550_000;

/// Waits until `condition` holds. Returns false if it does not hold in time.
fn wait(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < BOUND {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Writes the pattern for Lua.
fn write_lua(rig: &Rig, length: usize) {
    (&rig.lua).write_all(&pattern(0, length)).unwrap();
}

/// Writes the pattern for the peer.
fn write_peer(rig: &mut Rig, length: usize) {
    rig.peer.write_all(&pattern(0, length)).unwrap();
}

/// Writes the pattern for Lua, which does not read, until the front holds its maximum and some bytes wait in the TCP
/// socket. Returns the number of bytes written.
fn write_peer_until_it_waits(rig: &mut Rig) -> usize {
    for went in (0..100).map(|step| step * 32_768) {
        let pause = Instant::now();
        while on_the_way(rig.peer.get_ref()) != (0, 0) {
            if pause.elapsed() > Duration::from_millis(200) {
                return went;
            }
            thread::sleep(Duration::from_millis(1));
        }
        rig.peer.write_all(&pattern(went, 32_768)).unwrap();
    }
    panic!("the front takes everything");
}

/// Sends the peer's close_notify.
fn close_peer(rig: &mut Rig) {
    rig.peer.shutdown().unwrap();
}

/// Returns a TCP stream that replaces a stream which is to be closed.
fn unconnected() -> TcpStream {
    tcp_pair().1
}

/// Drops Lua's last descriptor.
fn lose_lua(rig: &mut Rig) {
    drop(std::mem::replace(&mut rig.lua, UnixStream::pair().unwrap().0));
}

/// Closes the peer's TCP socket.
fn lose_peer(rig: &mut Rig) {
    drop(std::mem::replace(rig.peer.get_mut(), unconnected()));
}

/// Reads and writes for the peer at the same time, and pauses after each read.
fn exchange(rig: &mut Rig, pause: Duration) {
    rig.peer.get_ref().set_nonblocking(true).unwrap();
    let (text, mut room) = (pattern(0, BULK), vec![0; 65_536]);
    let (mut written, mut came) = (0, 0);
    while written < BULK || came < BULK {
        let before = (written, came);
        if written < BULK {
            written += count(rig.peer.ssl_write(&text[written..]));
        }
        if came < BULK {
            let read = count(rig.peer.ssl_read(&mut room));
            assert!(room[..read] == text[came..came + read], "wrong bytes behind {came}");
            came += read;
            thread::sleep(pause);
        }
        if before == (written, came) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    rig.peer.get_ref().set_nonblocking(false).unwrap();
}

fn count(outcome: Result<usize, openssl::ssl::Error>) -> usize {
    match outcome {
        Ok(count) => count,
        Err(error) => {
            assert!(matches!(error.code(), SslCode::WANT_READ | SslCode::WANT_WRITE), "{error}");
            0
        }
    }
}

/// Sends bulk data in both directions at the same time, with a pause after each read by Lua and by the peer.
fn bulk(version: SslVersion, lua_pause: Duration, peer_pause: Duration) {
    let mut rig = Rig::new(version);
    let (lua, reading) = (rig.lua.try_clone().unwrap(), rig.lua.try_clone().unwrap());
    let writer = thread::spawn(move || (&lua).write_all(&pattern(0, BULK)).unwrap());
    let reader = thread::spawn(move || {
        let (mut reading, mut room, mut came) = (&reading, vec![0; 30_000], 0);
        while came < BULK {
            let count = reading.read(&mut room).unwrap();
            assert!(count > 0, "an end of file behind {came}");
            assert!(room[..count] == pattern(came, count), "wrong bytes behind {came}");
            came += count;
            thread::sleep(lua_pause);
        }
    });
    exchange(&mut rig, peer_pause);
    writer.join().unwrap();
    reader.join().unwrap();
    assert_eq!(rig.end(), None);
}

#[test]
fn bulk_goes_both_ways_at_once() {
    bulk(SslVersion::TLS1_3, Duration::ZERO, Duration::ZERO);
    bulk(SslVersion::TLS1_2, Duration::ZERO, Duration::ZERO);
}

#[test]
fn bulk_waits_for_a_slow_lua() {
    bulk(SslVersion::TLS1_3, Duration::from_millis(2), Duration::ZERO);
}

#[test]
fn bulk_waits_for_a_slow_peer() {
    bulk(SslVersion::TLS1_3, Duration::ZERO, Duration::from_millis(5));
}

#[test]
fn after_a_half_close_of_luas_the_peer_still_sends() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut rig = Rig::new(version);
        write_lua(&rig, 100_000);
        rig.lua.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_peer(&mut rig.peer), (100_000, Ended::CloseNotify));
        let reading = rig.lua.try_clone().unwrap();
        let reader = thread::spawn(move || read_lua(&reading));
        write_peer(&mut rig, MIB);
        close_peer(&mut rig);
        assert_eq!(reader.join().unwrap(), MIB);
        assert_eq!(rig.end(), Some(ErrorCode::Closed));
    }
}

#[test]
fn after_the_peers_close_notify_lua_still_sends() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    write_peer(&mut rig, 100_000);
    close_peer(&mut rig);
    assert_eq!(read_lua(&rig.lua), 100_000);
    assert_eq!(rig.end(), Some(ErrorCode::Closed));
    let writing = rig.lua.try_clone().unwrap();
    let writer = thread::spawn(move || (&writing).write_all(&pattern(0, MIB)).unwrap());
    let mut room = vec![0; MIB];
    rig.peer.read_exact(&mut room).unwrap();
    assert!(room == pattern(0, MIB));
    writer.join().unwrap();
    rig.close();
    assert_eq!(read_peer(&mut rig.peer), (0, Ended::CloseNotify));
}

#[test]
fn a_half_close_before_the_peers_end_is_a_clean_one() {
    // Both ends arrive at the front at the same time. The peer's close_notify must not hide that Lua had ended
    // correctly before.
    for _ in 0..20 {
        let mut rig = Rig::new(SslVersion::TLS1_3);
        write_peer(&mut rig, MUCH);
        write_lua(&rig, 1000);
        rig.lua.shutdown(Shutdown::Write).unwrap();
        close_peer(&mut rig);
        read_lua(&rig.lua);
        assert_eq!(read_peer(&mut rig.peer), (1000, Ended::CloseNotify));
    }
}

#[test]
fn a_close_message_overtakes_nothing_that_lua_wrote() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    let written = rig.fill_from_lua();
    rig.close();
    assert_eq!(read_peer(&mut rig.peer), (written, Ended::CloseNotify));
    for _ in 0..200 {
        let mut rig = Rig::new(SslVersion::TLS1_3);
        write_lua(&rig, 300);
        rig.close();
        assert_eq!(read_peer(&mut rig.peer), (300, Ended::CloseNotify));
    }
}

#[test]
fn after_a_close_message_lua_reads_on_and_its_writes_fail() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    write_lua(&rig, 1000);
    rig.close();
    assert_eq!(read_peer(&mut rig.peer), (1000, Ended::CloseNotify));
    assert_eq!((&rig.lua).write(b"late").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    write_peer(&mut rig, 50_000);
    close_peer(&mut rig);
    assert_eq!(read_lua(&rig.lua), 50_000);
    assert_eq!(rig.end(), Some(ErrorCode::Closed));
}

#[test]
fn a_lost_lua_ends_without_close_notify_behind_all_that_it_wrote() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut rig = Rig::new(version);
        let written = rig.fill_from_lua();
        lose_lua(&mut rig);
        assert_eq!(read_peer(&mut rig.peer), (written, Ended::WithoutCloseNotify));
        lose_peer(&mut rig);
        rig.wait_for_end();
        assert_eq!(rig.end(), Some(ErrorCode::Cut));
    }
}

#[test]
fn unread_data_at_a_lost_lua_takes_nothing_from_the_peer() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    rig.fill_from_peer();
    write_lua(&rig, 150_000);
    lose_lua(&mut rig);
    assert_eq!(read_peer(&mut rig.peer), (150_000, Ended::WithoutCloseNotify));
}

#[test]
fn a_clean_end_and_a_cut_are_told_apart_behind_unread_data() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut rig = Rig::new(version);
        let length = write_peer_until_it_waits(&mut rig);
        close_peer(&mut rig);
        lose_peer(&mut rig);
        assert_eq!(read_lua(&rig.lua), length);
        assert_eq!(rig.end(), Some(ErrorCode::Closed));

        let mut rig = Rig::new(version);
        let length = write_peer_until_it_waits(&mut rig);
        lose_peer(&mut rig);
        assert_eq!(read_lua(&rig.lua), length);
        assert_eq!(rig.end(), Some(ErrorCode::Cut));
        assert_eq!((&rig.lua).write(b"late").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_reset_is_a_cut() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    write_peer(&mut rig, 1000);
    let mut room = [0; 1000];
    (&rig.lua).read_exact(&mut room).unwrap();
    sockopt::set_socket_linger(rig.peer.get_ref(), Some(Duration::ZERO)).unwrap();
    lose_peer(&mut rig);
    assert_eq!((&rig.lua).read(&mut room).unwrap(), 0);
    assert_eq!(rig.end(), Some(ErrorCode::Cut));
    lose_lua(&mut rig);
    rig.wait_for_end();
    assert_eq!(rig.end(), Some(ErrorCode::Cut), "told after the end too");
}

#[test]
fn what_the_peer_said_before_it_went_is_read_although_nothing_can_be_sent() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    let length = write_peer_until_it_waits(&mut rig);
    close_peer(&mut rig);
    let arrived = wait(|| on_the_way(rig.peer.get_ref()).0 == 0);
    assert!(arrived && on_the_way(rig.peer.get_ref()).1 > 0, "{:?}", on_the_way(rig.peer.get_ref()));
    lose_peer(&mut rig);
    // The first of these causes a reset, and the others encounter it.
    for _ in 0..5 {
        let _ = (&rig.lua).write(b"are you still there?");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(read_lua(&rig.lua), length);
    assert_eq!(rig.end(), Some(ErrorCode::Closed));
}

#[test]
fn a_garbled_record_is_a_failure_of_tls() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    write_peer(&mut rig, 5000);
    rig.peer.get_mut().write_all(&[23, 3, 3, 0, 32]).unwrap();
    rig.peer.get_mut().write_all(&[7; 32]).unwrap();
    assert_eq!(read_lua(&rig.lua), 5000);
    assert_eq!(rig.end(), Some(ErrorCode::Tls));
    let alert = rig.peer.ssl_read(&mut [0; 10]).unwrap_err();
    assert_eq!(alert.code(), SslCode::SSL, "the peer is told: {alert}");
    lose_lua(&mut rig);
    lose_peer(&mut rig);
    rig.wait_for_end();
}

#[test]
fn a_peer_that_never_reads_keeps_no_lost_connection() {
    let mut rig = Rig::tight(Duration::from_millis(300));
    rig.fill_from_lua();
    lose_lua(&mut rig);
    rig.wait_for_end();
    assert_eq!(rig.end(), Some(ErrorCode::Cut));
}

#[test]
fn a_peer_that_never_reads_keeps_no_closed_connection() {
    let rig = Rig::tight(Duration::from_millis(300));
    rig.fill_from_lua();
    rig.close();
    assert_eq!(read_lua(&rig.lua), 0, "Lua sees the end, too");
    rig.wait_for_end();
    assert_eq!(rig.end(), Some(ErrorCode::Cut));
}

#[test]
fn a_peer_that_never_closes_keeps_no_ended_connection() {
    let mut rig = Rig::with_patience(Duration::from_millis(300));
    rig.close();
    lose_lua(&mut rig);
    rig.wait_for_end();
    let mut rig = Rig::with_patience(Duration::from_millis(300));
    lose_lua(&mut rig);
    rig.wait_for_end();
}

#[test]
fn draining_goes_on_for_as_long_as_it_progresses() {
    let mut rig = Rig::tight(Duration::from_secs(2));
    let written = rig.fill_from_lua();
    lose_lua(&mut rig);
    let (mut room, mut came) = (vec![0; 16_384], 0);
    while came < written {
        let count = rig.peer.ssl_read(&mut room).unwrap();
        assert!(room[..count] == pattern(came, count), "wrong bytes behind {came}");
        came += count;
        // The total time exceeds the drain deadline of the connection.
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(read_peer(&mut rig.peer), (0, Ended::WithoutCloseNotify));
}

#[test]
fn a_half_close_gives_a_slow_peer_all_the_time_it_needs() {
    let mut rig = Rig::tight(Duration::from_millis(200));
    let written = rig.fill_from_lua();
    rig.lua.shutdown(Shutdown::Write).unwrap();
    thread::sleep(Duration::from_millis(600));
    assert_eq!(read_peer(&mut rig.peer), (written, Ended::CloseNotify));
    write_peer(&mut rig, 1000);
    close_peer(&mut rig);
    assert_eq!(read_lua(&rig.lua), 1000);
    assert_eq!(rig.end(), Some(ErrorCode::Closed));
}

/// Reads for Lua after pauses that are longer than the connection may drain.
fn read_with_pauses(length: usize) {
    let mut rig = Rig::with_patience(Duration::from_millis(200));
    rig.lua.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_peer(&mut rig.peer), (0, Ended::CloseNotify));
    write_peer(&mut rig, length);
    close_peer(&mut rig);
    let (mut room, mut came) = (vec![0; 60_000], 0);
    while came < length {
        thread::sleep(Duration::from_millis(300));
        let count = (&rig.lua).read(&mut room).unwrap();
        assert!(count > 0, "an end of file behind {came} of {length}");
        assert!(room[..count] == pattern(came, count), "wrong bytes behind {came}");
        came += count;
    }
    assert_eq!((&rig.lua).read(&mut room).unwrap(), 0);
    assert_eq!(rig.end(), Some(ErrorCode::Closed));
}

#[test]
fn a_slow_lua_gets_everything_after_tcp_has_gone() {
    // In some of them the peer's end has been read, and earlier data waits for Lua.
    let lengths = (0..16).map(|n| 300_000 + 10_000 * n);
    let readers: Vec<_> = lengths.map(|length| thread::spawn(move || read_with_pauses(length))).collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn idle_connections_cost_nothing_in_any_state() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    rig.assert_idle("open");
    rig.lua.shutdown(Shutdown::Write).unwrap();
    rig.assert_idle("half-closed by Lua");
    rig.fill_from_peer();
    rig.assert_idle("half-closed by Lua, which does not read");

    let mut rig = Rig::new(SslVersion::TLS1_3);
    close_peer(&mut rig);
    rig.assert_idle("half-closed by the peer");
    lose_peer(&mut rig);
    rig.assert_idle("half-closed by the peer, which has gone");

    let mut rig = Rig::new(SslVersion::TLS1_3);
    rig.fill_from_peer();
    rig.assert_idle("Lua does not read");
    cut(&rig.peer);
    rig.assert_idle("cut, and Lua does not read");
    lose_peer(&mut rig);
    rig.assert_idle("reset, and Lua does not read");

    let rig = Rig::new(SslVersion::TLS1_3);
    rig.fill_from_lua();
    rig.assert_idle("the peer does not read");
    rig.lua.shutdown(Shutdown::Write).unwrap();
    rig.assert_idle("half-closed by Lua, and the peer does not read");

    let mut rig = Rig::new(SslVersion::TLS1_3);
    rig.fill_from_lua();
    rig.fill_from_peer();
    rig.assert_idle("nobody reads");
    lose_lua(&mut rig);
    rig.assert_idle("Lua lost, and the peer does not read");

    let rig = Rig::new(SslVersion::TLS1_3);
    rig.close();
    rig.assert_idle("closed by Lua");
    rig.lua.shutdown(Shutdown::Read).unwrap();
    rig.assert_idle("closed by Lua, which reads no more");

    let mut rig = Rig::new(SslVersion::TLS1_3);
    lose_lua(&mut rig);
    rig.assert_idle("Lua lost, and the peer does not close");

    let mut rig = Rig::new(SslVersion::TLS1_3);
    write_peer(&mut rig, MUCH);
    close_peer(&mut rig);
    rig.lua.shutdown(Shutdown::Write).unwrap();
    read_peer(&mut rig.peer);
    lose_peer(&mut rig);
    rig.assert_idle("ended both ways, with something to read for Lua");
    assert_eq!(read_lua(&rig.lua), MUCH);
    rig.wait_for_end();
}

#[test]
fn a_connection_that_lua_reads_no_more_still_sends() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    rig.lua.shutdown(Shutdown::Read).unwrap();
    write_peer(&mut rig, 3 * MIB);
    write_lua(&rig, 100_000);
    rig.lua.shutdown(Shutdown::Write).unwrap();
    let mut room = vec![0; 100_000];
    rig.peer.read_exact(&mut room).unwrap();
    assert!(room == pattern(0, 100_000));
}

#[test]
fn descriptors_in_the_stream_are_closed() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    for part in [&b"one"[..], b"two"] {
        let fds = [std::os::fd::AsFd::as_fd(&writing)];
        let flags = rustix::net::SendFlags::empty();
        luassl_keeper_ipc::transport::send(&rig.lua, part, &fds, flags).unwrap();
    }
    (&rig.lua).write_all(b"three").unwrap();
    drop(writing);
    let mut room = [0; 11];
    rig.peer.read_exact(&mut room).unwrap();
    assert_eq!(&room, b"onetwothree");
    assert_eq!(rustix::io::read(&reading, &mut room).unwrap(), 0, "no copy is left");
}

#[test]
fn what_signs_after_the_handshake_does_so_where_it_may_wait() {
    let name = "renegotiated";
    let world = World::with([Authority::root().identity(name, Kind::P256, &["localhost"])]);
    let spec = ContextSpec { maximum_protocol: Some(ProtocolVersion::Tls12), ..of(name) };
    let session = world.context(&spec).session(Role::Server, None, None).unwrap();
    let mut rig = Rig::over(session, SslVersion::TLS1_2, PATIENCE, tcp_pair());
    let (lua, connection) = (rig.lua.try_clone().unwrap(), Arc::clone(&rig.connection));
    let writer = thread::spawn(move || {
        (&lua).write_all(&pattern(0, MIB)).unwrap();
        tell(&connection, Command::Renegotiate);
        (&lua).write_all(&pattern(MIB, MIB)).unwrap();
        tell(&connection, Command::Close);
    });
    assert_eq!(read_peer(&mut rig.peer), (2 * MIB, Ended::CloseNotify));
    writer.join().unwrap();
    assert_eq!(signer().schemes(name).len(), 2, "one signature for each handshake");
    write_peer(&mut rig, 1000);
    close_peer(&mut rig);
    assert_eq!(read_lua(&rig.lua), 1000);
    assert_eq!(rig.end(), Some(ErrorCode::Closed));
}

#[test]
fn keys_are_updated_in_the_middle_of_bulk() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    for part in 0..5 {
        (&rig.lua).write_all(&pattern(part * 10_000, 10_000)).unwrap();
        rig.renegotiate();
    }
    rig.close();
    assert_eq!(read_peer(&mut rig.peer), (50_000, Ended::CloseNotify));
}

#[test]
fn a_peer_that_asks_for_new_keys_and_never_reads_is_bounded() {
    let mut rig = Rig::tight(Duration::from_millis(300));
    rig.peer.get_ref().set_nonblocking(true).unwrap();
    let mut asked = 0;
    let stuck = wait(|| {
        for _ in 0..1000 {
            // Not possible until the last one has been sent.
            let _ = luassl_tls::renegotiate(Exclusive::of(&mut rig.peer, SslStream::ssl));
            let last = Instant::now();
            while rig.peer.do_handshake().is_err() {
                if last.elapsed() > Duration::from_millis(500) {
                    return true;
                }
            }
            asked += 1;
        }
        false
    });
    assert!(stuck, "{asked} updates of keys, and no end");
    assert_eq!(rig.end(), None);
    rig.assert_idle("the peer asks for new keys and does not read");
    lose_lua(&mut rig);
    rig.wait_for_end();
}

#[test]
fn a_connection_that_no_grant_allows_any_more_ends_without_close_notify_and_says_why() {
    let mut rig = Rig::new(SslVersion::TLS1_3);
    let failure = luassl_protocol::Failure::new(ErrorCode::Refused, "no grant");
    rig.connection.withdraw(failure);
    assert_eq!(read_peer(&mut rig.peer), (0, Ended::WithoutCloseNotify));
    assert_eq!(read_lua(&rig.lua), 0);
    assert_eq!(rig.end(), Some(ErrorCode::Refused));
    rig.wait_for_end();
}
