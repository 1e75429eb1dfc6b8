//! Streams: the handshake's result, plaintext, ends that are told and not guessed.

use crate::context::context;
use crate::front::{Front, Peer};
use luassl_client::{AdoptError, Adopted, ConnectOptions, Error, PendingConnection, Stream, Timeout};
use luassl_protocol::{ErrorCode, Failure, HandshakeResult, Info, LuaCode, Request, Role, to_frame};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsRawFd;
use std::time::Duration;

const NOW: Timeout = Timeout::After(Duration::ZERO);
const SOON: Timeout = Timeout::After(Duration::from_millis(20));

fn pending_connection(front: &Front) -> (TcpListener, PendingConnection) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let options = ConnectOptions::client("127.0.0.1", Some("127.0.0.1"));
    let pending = PendingConnection::dial(&context(front), "127.0.0.1", port, options).unwrap();
    (tcp, pending)
}

fn connected(front: &Front) -> (Stream, Peer) {
    let (_tcp, mut pending) = pending_connection(front);
    let stream = pending.advance(Timeout::Never).unwrap();
    (stream, front.stream())
}

fn read(stream: &mut Stream) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; 1 << 16];
    let length = stream.read(&mut buffer, Timeout::Never)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn ended_with(code: ErrorCode) -> (LuaCode, usize) {
    let front = Front::start();
    let (mut stream, peer) = connected(&front);
    front.script().end = Some(Failure::new(code, "the end"));
    (&peer.stream).write_all(b"last words").unwrap();
    drop(peer);
    assert_eq!(read(&mut stream).unwrap(), b"last words");
    let first = read(&mut stream).unwrap_err();
    assert_eq!(read(&mut stream).unwrap_err(), first);
    (first.code, front.count(|request| matches!(request, Request::Status(_))))
}

#[test]
fn bytes_go_both_ways_unchanged() {
    let front = Front::start();
    let (mut stream, mut peer) = connected(&front);
    stream.write(b"to the peer", Timeout::Never).unwrap();
    assert_eq!(peer.receive(11), b"to the peer");
    peer.stream.write_all(b"to Lua").unwrap();
    assert_eq!(read(&mut stream).unwrap(), b"to Lua");
}

#[test]
fn plaintext_behind_the_handshake_result_stays_in_the_socket() {
    let front = Front::start();
    front.script().first_words = b"220 ready\r\n".to_vec();
    let (mut stream, _peer) = connected(&front);
    assert_eq!(stream.pending().unwrap(), 11);
    assert_eq!(read(&mut stream).unwrap(), b"220 ready\r\n");
}

#[test]
fn a_failed_handshake_stays_failed_and_takes_no_bytes() {
    let front = Front::start();
    front.script().handshake_error = Some(Failure::new(ErrorCode::Verification, "expired"));
    let (_tcp, mut pending) = pending_connection(&front);
    let error = pending.advance(Timeout::Never).err().unwrap();
    assert_eq!((error.code, error.message.as_str()), (LuaCode::Verification, "expired"));
    assert_eq!(pending.advance(Timeout::Never).err().unwrap().code, LuaCode::Misuse);
    let mut rest = Vec::new();
    front.stream().stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn a_peer_that_closes_in_the_handshake_is_no_clean_close() {
    let front = Front::start();
    front.script().handshake_error = Some(Failure::new(ErrorCode::Closed, "closed"));
    let (_tcp, mut pending) = pending_connection(&front);
    assert_eq!(pending.advance(Timeout::Never).err().unwrap().code, LuaCode::Cut);
}

#[test]
fn a_handshake_that_takes_longer_is_gone_on_with_after_the_timeout() {
    let front = Front::start();
    front.script().holds_result = true;
    let (_tcp, mut pending) = pending_connection(&front);
    assert_eq!(pending.advance(SOON).err().unwrap().code, LuaCode::Timeout);
    assert_eq!(pending.advance(NOW).err().unwrap().code, LuaCode::Timeout);
    let mut peer = front.stream();
    let frame = to_frame(&HandshakeResult { error: None, info: Some(Info::default()) }).unwrap();
    peer.stream.write_all(&frame[..5]).unwrap();
    assert_eq!(pending.advance(SOON).err().unwrap().code, LuaCode::Timeout);
    peer.stream.write_all(&frame[5..]).unwrap();
    assert!(pending.advance(Timeout::Never).is_ok());
}

#[test]
fn the_tcp_socket_is_the_daemons_after_the_handshake_began() {
    let front = Front::start();
    let (tcp, mut pending) = pending_connection(&front);
    let _stream = pending.advance(Timeout::Never).unwrap();
    let (mut accepted, _) = tcp.accept().unwrap();
    drop(front.stream().tcp);
    assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn every_end_has_its_code_and_is_asked_for_once() {
    assert_eq!(ended_with(ErrorCode::Closed), (LuaCode::Closed, 1));
    assert_eq!(ended_with(ErrorCode::Cut), (LuaCode::Cut, 1));
    assert_eq!(ended_with(ErrorCode::Tls), (LuaCode::Tls, 1));
}

#[test]
fn a_front_that_dies_ends_its_streams_with_its_code() {
    let front = Front::start();
    let (mut stream, peer) = connected(&front);
    let (path, _directory) = front.die();
    drop(peer);
    assert_eq!(read(&mut stream).unwrap_err().code, LuaCode::Daemon);
    let written = stream.write(b"x", Timeout::Never).unwrap_err();
    assert_eq!((written.error.code, written.written), (LuaCode::Daemon, 0));
    let next = Front::start_at(path);
    assert_eq!(stream.info(Timeout::Never).unwrap().protocol, "TLSv1.3");
    assert_eq!(next.log().len(), 0);
}

#[test]
fn a_stream_of_a_dead_front_does_not_believe_the_next_one() {
    let front = Front::start();
    let (mut stream, peer) = connected(&front);
    let (path, _directory) = front.die();
    let next = Front::start_at(path);
    next.script().end = Some(Failure::new(ErrorCode::Closed, "another connection"));
    drop(peer);
    assert_eq!(read(&mut stream).unwrap_err().code, LuaCode::Daemon);
}

#[test]
fn reading_waits_no_longer_than_it_may() {
    let front = Front::start();
    let (mut stream, _peer) = connected(&front);
    for timeout in [NOW, SOON] {
        assert_eq!(stream.read(&mut [0; 8], timeout).unwrap_err().code, LuaCode::Timeout);
    }
}

#[test]
fn a_write_that_would_block_says_how_much_it_took() {
    let front = Front::start();
    let (mut stream, mut peer) = connected(&front);
    let data: Vec<u8> = (0..8 << 20).map(|i: u32| (i % 251) as u8).collect();
    let failed = stream.write(&data, NOW).unwrap_err();
    assert_eq!(failed.error.code, LuaCode::Timeout);
    assert!(failed.written > 0 && failed.written < data.len());
    let reader = std::thread::spawn(move || peer.receive(8 << 20));
    stream.write(&data[failed.written..], Timeout::Never).unwrap();
    assert!(reader.join().unwrap() == data);
}

#[test]
fn writing_to_a_peer_that_closed_is_an_error_below_zero() {
    let front = Front::start();
    let (mut stream, peer) = connected(&front);
    front.script().end = Some(Failure::new(ErrorCode::Closed, "closed"));
    drop(peer);
    let failed = stream.write(b"too late", Timeout::Never).unwrap_err();
    assert_eq!(failed.error.code, LuaCode::Cut);
}

#[test]
fn a_close_is_told_to_the_daemon_and_waits_for_the_peers_end() {
    let front = Front::start();
    let (mut stream, peer) = connected(&front);
    let end = std::thread::spawn(move || {
        let mut socket = peer.stream;
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        // More than the socket holds: the close has to take it, or this would fail.
        socket.write_all(&vec![0; 4 << 20]).map(|()| rest)
    });
    stream.write(b"bye", Timeout::Never).unwrap();
    stream.close(&mut [0; 4096], Timeout::Never).unwrap();
    assert_eq!(end.join().unwrap().unwrap(), b"bye");
    assert_eq!(front.count(|request| matches!(request, Request::Close(_))), 1);
    assert_eq!(stream.close(&mut [0; 16], Timeout::Never), Ok(()));
    assert_eq!(read(&mut stream).unwrap_err().code, LuaCode::Misuse);
}

#[test]
fn a_close_that_may_not_wait_only_tells_the_daemon() {
    let front = Front::start();
    let (mut stream, peer) = connected(&front);
    stream.close(&mut [], NOW).unwrap();
    assert_eq!(front.count(|request| matches!(request, Request::Close(_))), 1);
    assert_eq!((&peer.stream).read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_stream_that_is_dropped_or_cut_closes_its_descriptor_alone() {
    let front = Front::start();
    let (stream, peer) = connected(&front);
    drop(stream);
    assert_eq!((&peer.stream).read(&mut [0; 1]).unwrap(), 0);
    let (mut stream, peer) = connected(&front);
    stream.cut();
    assert_eq!((&peer.stream).read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(front.count(|request| matches!(request, Request::Close(_))), 0);
}

#[test]
fn a_half_closed_peer_can_still_be_written_to() {
    let front = Front::start();
    let (mut stream, mut peer) = connected(&front);
    front.script().end = Some(Failure::new(ErrorCode::Closed, "closed"));
    peer.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut stream).unwrap_err().code, LuaCode::Closed);
    stream.write(b"answer", Timeout::Never).unwrap();
    assert_eq!(peer.receive(6), b"answer");
}

#[test]
fn attaching_takes_sockets_alone() {
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(Adopted::new(file.as_raw_fd()), Err(AdoptError::NoSocket(_))));
    assert!(matches!(Adopted::new(-1), Err(AdoptError::NotOpen(-1))));
    assert!(matches!(Adopted::new(1_000_000), Err(AdoptError::NotOpen(_))));
}

#[test]
fn an_attached_socket_carries_the_terms() {
    let front = Front::start();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let options = ConnectOptions { role: Role::Server, host: None, sni: None };
    let number = std::os::fd::IntoRawFd::into_raw_fd(client);
    let socket = Adopted::new(number).unwrap();
    let mut pending = PendingConnection::attach(&context(&front), socket, options, Timeout::Never).unwrap();
    pending.advance(Timeout::Never).unwrap();
    let role = front.log().into_iter().find_map(|request| match request {
        Request::Connect(connect) => Some((connect.role, connect.host)),
        _ => None,
    });
    assert_eq!(role.unwrap(), (Role::Server, None));
}

#[test]
fn nobody_listening_is_said_with_the_target() {
    let front = Front::start();
    let (tcp, mut pending) = pending_connection(&front);
    let port = tcp.local_addr().unwrap().port();
    drop(tcp);
    let error = pending.advance(Timeout::Never).err().unwrap();
    assert_eq!(error.code, LuaCode::Cut);
    assert_eq!(error.message, format!("cannot connect to 127.0.0.1 port {port}: connection refused"));
}

#[test]
fn names_are_sent_and_addresses_are_not() {
    let by_name = ConnectOptions::client("example.org", Some("example.org"));
    assert_eq!((by_name.host.as_deref(), by_name.sni), (Some("example.org"), None));
    let unchecked = ConnectOptions::client("example.org", None);
    assert_eq!((unchecked.host, unchecked.sni.as_deref()), (None, Some("example.org")));
    let address = ConnectOptions::client("[::1]", Some("[::1]"));
    assert_eq!((address.host.as_deref(), address.sni), (Some("::1"), None));
}

#[test]
fn a_connect_that_the_daemon_did_not_answer_in_time_is_gone_on_with() {
    let front = Front::start();
    front.script().unanswered_connects = 1;
    let (tcp, mut pending) = pending_connection(&front);
    assert_eq!(pending.advance(SOON).err().unwrap().code, LuaCode::Timeout);
    let stream = pending.advance(Timeout::Never).unwrap();
    // The daemon may have spoken on the first connection: it goes on with one of its own.
    let (mut first, _) = tcp.accept().unwrap();
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0);
    let (_second, _) = tcp.accept().unwrap();
    drop(stream);
}

#[test]
fn an_attach_that_the_daemon_did_not_answer_in_time_says_so_and_is_no_timeout() {
    let front = Front::start();
    front.script().unanswered_connects = 1;
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let adopted = Adopted::new(socket.as_raw_fd()).unwrap();
    let options = ConnectOptions { role: Role::Client, host: None, sni: None };
    let error = PendingConnection::attach(&context(&front), adopted, options, SOON).err().unwrap();
    assert_eq!(error.code, LuaCode::Daemon);
    assert!(error.message.contains("close it"), "{}", error.message);
}

#[test]
fn a_question_that_is_not_answered_in_time_costs_no_context() {
    let front = Front::start();
    front.script().unanswered_renegotiations = 1;
    let (mut stream, _peer) = connected(&front);
    assert_eq!(stream.renegotiate(SOON).unwrap_err().code, LuaCode::Timeout);
    stream.renegotiate(Timeout::Never).unwrap();
    assert_eq!(
        front.count(|request| matches!(request, Request::Hello(_))),
        1,
        "the control connection stays"
    );
}
