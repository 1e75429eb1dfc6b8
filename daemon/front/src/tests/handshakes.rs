//! Handshakes of the front with OpenSSL, in both roles.

use crate::handshake::handshake;
use crate::tests::{
    peers::{self, BOUND},
    rig::block_on,
};
use luassl_protocol::{ErrorCode, Failure, Role};
use openssl::ssl::{SslStream, SslVersion};
use rustix::net::sockopt;
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

#[test]
fn both_roles_shake_hands() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (tcp, peer) = peers::tcp_pair();
        let peer = thread::spawn(move || peers::client(version, peer));
        let done = block_on(handshake(peers::session(version), tcp, Role::Server, BOUND));
        assert!(done.is_ok(), "as a server: {:?}", done.err().map(|failed| failed.failure));
        peer.join().unwrap();
        let (tcp, peer) = peers::tcp_pair();
        let peer = thread::spawn(move || peers::server(version, peer));
        let done = block_on(handshake(peers::session(version), tcp, Role::Client, BOUND));
        assert!(done.is_ok(), "as a client: {:?}", done.err().map(|failed| failed.failure));
        peer.join().unwrap();
    }
}

/// Returns how a handshake ends, with the front as the server and a peer that does `behave`.
fn failing(deadline: Duration, behave: impl FnOnce(TcpStream) + Send + 'static) -> Failure {
    let (tcp, peer) = peers::tcp_pair();
    let peer = thread::spawn(move || behave(peer));
    let session = peers::session(SslVersion::TLS1_3);
    let failure = block_on(async {
        let Err(failed) = handshake(session, tcp, Role::Server, deadline).await else {
            panic!("a handshake with nobody")
        };
        let failure = failed.failure.clone();
        failed.part().await;
        failure
    });
    peer.join().unwrap();
    failure
}

/// Reads to the end of the stream. Returns the received bytes.
fn read_all(mut peer: &TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    peer.read_to_end(&mut came).unwrap();
    came
}

#[test]
fn a_peer_that_goes_in_mid_handshake_is_a_cut() {
    let failure = failing(BOUND, drop);
    assert_eq!(failure.code, ErrorCode::Cut, "{failure}");
    let half = |mut peer: TcpStream| peer.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
    assert_eq!(failing(BOUND, half).code, ErrorCode::Cut);
    let reset = |peer: TcpStream| sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    assert_eq!(failing(BOUND, reset).code, ErrorCode::Cut);
}

#[test]
fn a_peer_that_never_answers_meets_the_deadline_and_an_end() {
    let silent = |peer: TcpStream| assert!(read_all(&peer).is_empty());
    assert_eq!(failing(Duration::from_millis(200), silent).code, ErrorCode::Timeout);
    let half = |mut peer: TcpStream| {
        peer.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
        assert!(read_all(&peer).is_empty());
    };
    assert_eq!(failing(Duration::from_millis(200), half).code, ErrorCode::Timeout);
}

#[test]
fn a_failed_handshakes_alert_arrives_before_the_end() {
    let http = |mut peer: TcpStream| {
        // More than is read for OpenSSL. A close with unread data would reset the connection, and the alert would be
        // lost.
        peer.write_all(&b"GET / HTTP/1.1\r\nHost: localhost\r\n".repeat(20_000)).unwrap();
        read_all(&peer);
    };
    assert_eq!(failing(BOUND, http).code, ErrorCode::Tls);
    let old = |peer: TcpStream| {
        let mut stream = SslStream::new(peers::session(SslVersion::TLS1_2), peer).unwrap();
        let error = stream.connect().unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
    };
    assert_eq!(failing(BOUND, old).code, ErrorCode::Tls);
}

#[test]
fn a_failure_is_told_while_the_peer_still_takes_the_alert() {
    let (tcp, mut peer) = peers::tcp_pair();
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut came = [0; 64];
    let failed = block_on(async {
        let failed =
            handshake(peers::session(SslVersion::TLS1_3), tcp, Role::Server, BOUND).await.err().unwrap();
        peer.set_nonblocking(true).unwrap();
        let end = loop {
            match peer.read(&mut came) {
                Ok(1..) => {}
                end => break end,
            }
        };
        assert_eq!(
            end.unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock,
            "the connection has not ended yet"
        );
        failed
    });
    assert_eq!(failed.failure.code, ErrorCode::Tls);
}

#[test]
fn a_failing_handshake_leaves_the_others_of_its_thread_alone() {
    let (tcp, peer) = peers::tcp_pair();
    let good = thread::spawn(move || peers::client(SslVersion::TLS1_3, peer));
    let bad = async {
        for _ in 0..3 {
            let (tcp, mut peer) = peers::tcp_pair();
            peer.write_all(b"this is no TLS, and goes on for a while").unwrap();
            let session = peers::session(SslVersion::TLS1_3);
            assert!(handshake(session, tcp, Role::Server, Duration::from_millis(100)).await.is_err());
        }
    };
    let session = peers::session(SslVersion::TLS1_3);
    let (done, ()) = block_on(async { tokio::join!(handshake(session, tcp, Role::Server, BOUND), bad) });
    assert!(done.is_ok(), "{:?}", done.err().map(|failed| failed.failure));
    good.join().unwrap();
}
