//! Attack 14: descriptors that are not what they should be. Whoever passes one gets an error, and nobody else notices.

use luassl_protocol::{Bind, Bound, ContextSpec, ErrorCode, Request};
use luassl_tests::daemon::Daemon;
use luassl_tests::peer::{Server, tcp};
use luassl_tests::scratch;
use luassl_tests::wire::{Control, unverified};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// What is no connection, by name.
fn hostile(directory: &Path) -> Vec<(&'static str, OwnedFd)> {
    let file = directory.join("file");
    std::fs::write(&file, "contents").expect("a file");
    let fifo = directory.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    let fifo = rustix::fs::open(fifo, OFlags::RDWR, Mode::empty()).expect("a FIFO");
    let local = || (Ipv4Addr::LOCALHOST, 0);
    vec![
        ("a pipe", rustix::pipe::pipe().expect("a pipe").0),
        ("a FIFO", fifo),
        ("a regular file", File::open(file).expect("a file").into()),
        ("a directory", File::open(directory).expect("a directory").into()),
        ("a device", File::open("/dev/zero").expect("a device").into()),
        ("a datagram socket", UdpSocket::bind(local()).expect("a socket").into()),
        ("a Unix socket", UnixStream::pair().expect("a pair").0.into()),
        ("a Unix datagram socket", UnixDatagram::unbound().expect("a socket").into()),
        ("a listening Unix socket", UnixListener::bind(directory.join("unix")).expect("a socket").into()),
        (
            "a socket without a peer",
            rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket"),
        ),
        (
            "an event counter",
            rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).expect("a counter"),
        ),
    ]
}

/// A listening socket, and a connected one with its peer.
fn wrong_way_round() -> (OwnedFd, OwnedFd, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let connected = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let peer = listener.accept().expect("accepted").0;
    (listener.into(), connected.into(), peer)
}

struct Attacker {
    daemon: Daemon,
    control: Control,
    client: u64,
    server: u64,
}

impl Attacker {
    fn new() -> Self {
        let daemon = Daemon::start();
        let mut control = Control::open(&daemon.socket());
        let client = control.context(unverified()).expect("a context");
        let spec = ContextSpec { identity: Some("keys/server-p256.pem".into()), ..ContextSpec::default() };
        let spec = ContextSpec { directory: Some(luassl_tests::pki::file("").display().to_string()), ..spec };
        let server = control.context(spec).expect("a context");
        Self { daemon, control, client, server }
    }

    fn connect(&mut self, descriptor: &OwnedFd) -> Result<(), ErrorCode> {
        self.control.connect(self.client, descriptor.as_fd()).map(drop).map_err(|failure| failure.code)
    }

    fn bind(&mut self, descriptor: &OwnedFd) -> Result<(), ErrorCode> {
        let request = Request::Bind(Bind { context: self.server, listener: None });
        self.control.pass::<Bound>(&request, &[descriptor.as_fd()]).map(drop).map_err(|failure| failure.code)
    }

    /// Another client of the same front connects, and plaintext goes both ways.
    fn others_go_on(&self) {
        let server = Server::start("server-p256", |_| {});
        let mut control = Control::open(&self.daemon.socket());
        let tcp = tcp(server.port()).expect("tcp");
        let (mut stream, mut peer) = control.stream(&tcp, || server.accept().expect("a handshake"));
        let mut came = [0; 2];
        stream.socket.write_all(b"ab").expect("written");
        peer.read_exact(&mut came).expect("read");
        peer.write_all(b"cd").expect("written");
        stream.socket.read_exact(&mut came).expect("read");
        assert_eq!(&came, b"cd");
    }
}

#[test]
fn attack_14_what_is_no_connection_is_refused_to_whoever_passed_it() {
    let mut attacker = Attacker::new();
    let directory = scratch();
    for (what, descriptor) in hostile(directory.path()) {
        assert_eq!(attacker.connect(&descriptor), Err(ErrorCode::Descriptor), "{what} as a connection");
        assert_eq!(attacker.bind(&descriptor), Err(ErrorCode::Descriptor), "{what} as a listener");
        attacker.others_go_on();
    }
}

#[test]
fn attack_14_a_listener_is_no_connection_and_a_connection_no_listener() {
    let mut attacker = Attacker::new();
    let (listener, connected, _peer) = wrong_way_round();
    assert_eq!(attacker.connect(&listener), Err(ErrorCode::Descriptor));
    assert_eq!(attacker.bind(&connected), Err(ErrorCode::Descriptor));
    attacker.others_go_on();
    // Positive control: each for what it is.
    assert_eq!(attacker.connect(&connected), Ok(()));
    assert_eq!(attacker.bind(&listener), Ok(()));
}

#[test]
fn attack_14_no_descriptor_at_all_is_an_error() {
    let mut attacker = Attacker::new();
    let request = Request::Bind(Bind { context: attacker.server, listener: None });
    let refused = attacker.control.pass::<Bound>(&request, &[]).map(drop).map_err(|failure| failure.code);
    assert_eq!(refused, Err(ErrorCode::Descriptor));
    attacker.others_go_on();
}

/// A close of such a socket would wait for an hour, and take its thread along.
#[test]
fn attack_14_sockets_that_linger_for_an_hour_keep_nobody() {
    let mut attacker = Attacker::new();
    let mut kept = Vec::new();
    for _ in 0..2 * std::thread::available_parallelism().map_or(1, usize::from) {
        let (_, connected, peer) = wrong_way_round();
        let stream = TcpStream::from(connected);
        stream.set_nonblocking(true).expect("a flag");
        while (&stream).write(&[0; 65_536]).is_ok() {}
        sockopt::set_socket_linger(&stream, Some(Duration::from_secs(3600))).expect("a linger");
        stream.set_nonblocking(false).expect("a flag");
        assert_eq!(attacker.connect(&stream.into()), Ok(()));
        // The peer never reads: there is always something left to send.
        kept.push(peer);
    }
    let other = Control::open(&attacker.daemon.socket());
    // All of them end with the connection that passed them.
    drop(std::mem::replace(&mut attacker.control, other));
    attacker.others_go_on();
}
