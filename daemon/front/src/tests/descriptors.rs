//! The descriptors that clients may pass, and how they are closed.

use crate::authorization::owner::Owner;
use crate::authorization::quota::{QuotaGuard, Quotas};
use crate::runtime::closing;
use crate::runtime::sockets::{self, connected_tcp, listening_tcp};
use crate::runtime::tcp::Tcp;
use crate::tests::peers::BOUND;
use luassl_keeper_ipc::transport;
use luassl_protocol::ErrorCode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};
use std::{
    io::Write,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::mpsc,
    thread,
    time::Duration,
};

/// Runs work that must not wait, and fails if it waits.
pub(crate) fn at_once(work: impl FnOnce() + Send + 'static) {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        work();
        sender.send(()).unwrap();
    });
    done.recv_timeout(BOUND).expect("a close waits");
}

/// Returns a TCP socket whose close waits for a peer that does not read, and this peer.
pub(crate) fn lingering() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while (&socket).write(&[0; 65_536]).is_ok() {}
    sockopt::set_socket_linger(&socket, Some(Duration::from_secs(1000))).unwrap();
    (socket.into(), peer)
}

#[test]
fn sockets_of_the_right_kind_are_taken_and_nothing_else() {
    let (reading, _writing) = rustix::pipe::pipe().unwrap();
    let others: Vec<OwnedFd> = vec![
        reading,
        UdpSocket::bind(("127.0.0.1", 0)).unwrap().into(),
        UnixStream::pair().unwrap().0.into(),
        UnixListener::bind_addr(&abstract_address()).unwrap().into(),
        socket(SocketType::STREAM),
        tempfile::tempfile().unwrap().into(),
    ];
    for fd in others {
        let mut came = vec![fd];
        assert_eq!(connected_tcp(&mut came).unwrap_err().code, ErrorCode::Descriptor);
        assert_eq!(listening_tcp(&mut came).unwrap_err().code, ErrorCode::Descriptor);
        assert_eq!(came.len(), 1, "whoever asked closes it");
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let connect = || OwnedFd::from(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (mut connected, mut reset) = (vec![connect()], vec![connect()]);
    let mut listener = vec![OwnedFd::from(listener)];
    assert!(connected_tcp(&mut listener).is_err());
    assert!(listening_tcp(&mut connected).is_err());
    assert!(connected_tcp(&mut connected).is_ok());
    assert!(connected_tcp(&mut connected).unwrap_err().message.contains("no descriptor came"));
    assert!(listening_tcp(&mut listener).is_ok());
    // The connection had not been accepted.
    assert_eq!(connected_tcp(&mut reset).unwrap_err().code, ErrorCode::Cut, "the peer's fault");
}

fn socket(kind: SocketType) -> OwnedFd {
    rustix::net::socket(AddressFamily::INET, kind, None).unwrap()
}

fn abstract_address() -> std::os::unix::net::SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("luassl-test-{}", std::process::id());
    std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap()
}

#[test]
fn a_socket_that_lingers_is_closed_without_waiting() {
    let (socket, _peer) = lingering();
    at_once(move || drop(Tcp::new(socket)));
    let (socket, _peer) = lingering();
    at_once(move || closing::close(vec![socket], None));
}

#[test]
fn a_descriptor_that_lingers_in_an_unread_message_keeps_nobody() {
    let (ours, theirs) = sockets::stream_pair().unwrap();
    let (socket, _peer) = lingering();
    transport::send(&theirs, b"x", &[socket.as_fd()], SendFlags::empty()).unwrap();
    drop(socket);
    at_once(move || drop(ours));
}

#[test]
fn descriptors_on_a_delivery_socket_are_told_and_closed() {
    let (ours, theirs) = sockets::delivery_pair().unwrap();
    let (socket, _peer) = lingering();
    transport::send(&theirs, b"a", &[socket.as_fd()], SendFlags::empty()).unwrap();
    drop(socket);
    at_once(move || {
        let received = ours.receive(&mut [0; 10]).unwrap();
        assert!(received.had_descriptors && received.count == 1);
    });
}

/// Returns a socket with an account that has no room for descriptors, its other end, and the guard that takes the room.
fn without_room() -> (sockets::ClientSocket, OwnedFd, QuotaGuard) {
    let (ours, theirs) = sockets::stream_pair().unwrap();
    let account = Quotas::default().account(&Owner { socket: "hostile".into(), uid: 1 });
    let waiting = account.waiting(64);
    (ours.with_account(account), theirs, waiting)
}

#[test]
fn finding_5_descriptors_without_room_stay_unread_and_plain_bytes_are_read() {
    let (ours, theirs, _waiting) = without_room();
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    transport::send(&theirs, b"plain", &[], SendFlags::empty()).unwrap();
    let mut room = [0; 10];
    assert_eq!(ours.receive(&mut room).unwrap().count, 5, "no descriptor, no matter");
    transport::send(&theirs, b"x", &[writing.as_fd()], SendFlags::empty()).unwrap();
    drop(writing);
    assert_eq!(ours.receive(&mut room), Err(Errno::CONNRESET));
    assert_eq!(ours.receive(&mut room), Err(Errno::CONNRESET), "it is still there");
    // The content of the socket is dropped with it.
    drop(ours);
    assert_eq!(rustix::io::read(&reading, &mut [0; 1]).unwrap(), 0);
}

/// Positive control of the test above: if there is room, descriptors are received, and closed.
#[test]
fn descriptors_with_room_are_received_and_closed() {
    let (ours, theirs, waiting) = without_room();
    drop(waiting);
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    transport::send(&theirs, b"x", &[writing.as_fd()], SendFlags::empty()).unwrap();
    drop(writing);
    assert!(ours.receive(&mut [0; 10]).unwrap().had_descriptors);
    assert_eq!(rustix::io::read(&reading, &mut [0; 1]).unwrap(), 0);
}

#[test]
fn finding_5_a_socket_that_takes_none_is_not_received_from_where_one_lies() {
    let (ours, theirs) = sockets::stream_pair().unwrap();
    let ours = ours.without_descriptors();
    let (_reading, writing) = rustix::pipe::pipe().unwrap();
    transport::send(&theirs, b"before", &[], SendFlags::empty()).unwrap();
    transport::send(&theirs, b"x", &[writing.as_fd()], SendFlags::empty()).unwrap();
    // The kernel may examine the second message together with the first.
    let refused = loop {
        match ours.receive_all(&mut [0; 10]) {
            Ok(received) => assert!(received.len > 0 && received.descriptors.is_empty()),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Errno::CONNRESET);
}

/// Returns how many of 100,000 bytes remain in a socket after its drop.
fn left_after_drop(kind: fn(sockets::ClientSocket) -> sockets::ClientSocket) -> u64 {
    let (ours, theirs) = sockets::stream_pair().unwrap();
    transport::send(&theirs, &[7; 100_000], &[], SendFlags::empty()).unwrap();
    let copy = ours.as_fd().try_clone_to_owned().unwrap();
    drop(kind(ours));
    rustix::io::ioctl_fionread(&copy).unwrap()
}

#[test]
fn finding_7_what_a_control_connection_leaves_unread_costs_its_thread_next_to_nothing() {
    assert!(left_after_drop(sockets::ClientSocket::dropped_in_passing) >= 100_000 - 2 * 8 * 1024);
    // Positive control: otherwise all bytes are discarded.
    assert_eq!(left_after_drop(|socket| socket), 0);
}

/// Each close is interrupted by the next one, so at most one of them waits.
#[test]
fn finding_5_lingering_descriptors_in_unread_messages_do_not_pile_up() {
    let quotas = Quotas::default();
    let account = quotas.account(&Owner { socket: "lingering".into(), uid: 1 });
    let mut peers = Vec::new();
    for _ in 0..8 {
        let (ours, theirs) = sockets::stream_pair().unwrap();
        let (socket, peer) = lingering();
        transport::send(&theirs, b"x", &[socket.as_fd()], SendFlags::empty()).unwrap();
        drop(socket);
        peers.push(peer);
        drop(ours.with_account(account.clone()));
    }
    let deadline = std::time::Instant::now() + BOUND;
    while quotas.waiting() > 1 {
        assert!(std::time::Instant::now() < deadline, "{} wait", quotas.waiting());
        let (ours, theirs) = sockets::stream_pair().unwrap();
        let (reading, _writing) = rustix::pipe::pipe().unwrap();
        transport::send(&theirs, b"x", &[reading.as_fd()], SendFlags::empty()).unwrap();
        drop(ours.with_account(account.clone()));
        thread::yield_now();
    }
}
