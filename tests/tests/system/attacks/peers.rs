//! Peers that keep what others need: half-open handshakes, and a program's answer that keeps a thread.

use super::bystander::{descriptors_of, memory};
use crate::api::serve;
use luassl_keeper_ipc::transport;
use luassl_protocol::{Connect, Connecting, ContextSpec, LockStepRequest, Mode, PskSpec, Request, Role};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{connector, tcp};
use luassl_tests::process::Process;
use luassl_tests::wire::Control;
use luassl_tests::{PATIENCE, until};
use openssl::ssl::{ErrorCode, SslStream};
use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// As many as one owner may have under way.
const IDLE: usize = 1024;

fn daemon(limits: &str) -> Daemon {
    let grant = "[[grant]]\nuser = UID\nidentities = ['*']\n";
    Daemon::with_config(&format!(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n{grant}[limits]\n{limits}"
    ))
}

/// A connection from another address of this machine.
pub(crate) fn tcp_from(source: Ipv4Addr, port: u16) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE)).expect("a timeout");
    rustix::net::bind(&socket, &SocketAddr::from((source, 0))).expect("an address");
    rustix::net::connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// This process holds both the flood and what it is for.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("a limit");
}

/// Whether the connection has been ended from there.
fn has_ended(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(0))
        || matches!(stream.peer_addr(), Err(error) if error.kind() == std::io::ErrorKind::NotConnected)
}

#[test]
fn finding_11_idle_connections_of_one_source_leave_another_served() {
    raise_descriptor_limit();
    let daemon = daemon("client_hello = 60\nhandshake = 60\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('server-p256')");
    // Those beyond the bound are reset, some before they have become connections here.
    let idle: Vec<_> = (0..IDLE).filter_map(|_| tcp(port).ok()).collect();
    agent.send("c = assert(s:accept())");
    let other = tcp_from(Ipv4Addr::new(127, 0, 0, 2), port);
    let served = connector(|_| {}).connect("localhost", other);
    assert!(served.is_ok(), "{:?}", served.err());
    agent.answer();
    // Positive control: the flood is where it is meant to be, and its own source has no more.
    let shaken = |tcp| connector(|_| {}).connect("localhost", tcp).is_ok();
    assert!(!tcp(port).is_ok_and(shaken), "the source has a bound");
    drop(idle);
    agent.send("c = assert(s:accept())");
    until("the source to be served again", || tcp(port).is_ok_and(shaken));
    agent.answer();
}

/// A peer's connection that reads nothing until it is told to.
struct Deaf {
    tcp: TcpStream,
    hears: bool,
}

impl Read for Deaf {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.hears { self.tcp.read(buffer) } else { Err(std::io::ErrorKind::WouldBlock.into()) }
    }
}

impl Write for Deaf {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.tcp.write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.tcp.flush()
    }
}

#[test]
fn finding_11_a_client_hello_has_a_deadline_of_its_own() {
    let daemon = daemon("client_hello = 0.5\nhandshake = 60\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('server-p256')");
    agent.send("c = assert(s:accept())");
    // Positive control: one that has sent its ClientHello has the handshake's deadline, and outlasts the others.
    let slow = Deaf { tcp: tcp(port).expect("tcp"), hears: false };
    let connector = connector(|_| {});
    let ssl = connector.configure().expect("a client").into_ssl("localhost").expect("a client");
    let mut slow = SslStream::new(ssl, slow).expect("a client");
    let asked = slow.connect().expect_err("no answer yet");
    assert_eq!(asked.code(), ErrorCode::WANT_READ);
    let silent = tcp(port).expect("tcp");
    let half = tcp(port).expect("tcp");
    (&half).write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).expect("written");
    assert!(has_ended(&silent), "a connection that says nothing");
    assert!(has_ended(&half), "a connection that says half of it");
    slow.get_mut().hears = true;
    slow.connect().expect("a handshake");
    agent.answer();
}

#[test]
fn finding_11_a_peer_that_says_nothing_has_no_session() {
    /// As many as one source may have under way.
    const PEERS: usize = 200;
    /// Sessions take a multiple of this, in KiB.
    const LITTLE: u64 = 4 << 10;
    /// Descriptors of the beginning that the front may have closed since.
    const CLOSED: usize = 10;
    let daemon = daemon("client_hello = 60\nhandshake = 60\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('server-p256')");
    let before = (memory(daemon.front()), descriptors_of(daemon.front()));
    let peers: Vec<_> = (0..PEERS).map(|_| tcp(port).expect("tcp")).collect();
    until("they are accepted", || descriptors_of(daemon.front()) + CLOSED >= before.1 + PEERS);
    let grown = || memory(daemon.front()).saturating_sub(before.0);
    assert!(grown() < LITTLE, "{} KiB for {PEERS} silent peers", grown());
    // Positive control: what a session takes is seen there.
    peers.iter().for_each(|mut peer| peer.write_all(&[22]).expect("written"));
    until("sessions to be made for those that speak", || grown() > LITTLE);
}

/// A connected socket whose close waits for an hour, and the other end, which never reads.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let peer = listener.accept().expect("accepted").0;
    stream.set_nonblocking(true).expect("a flag");
    while (&stream).write(&[0; 65_536]).is_ok() {}
    sockopt::set_socket_linger(&stream, Some(Duration::from_secs(3600))).expect("a linger");
    stream.set_nonblocking(false).expect("a flag");
    (stream, peer)
}

/// A lock-step connection whose handshake asks for a psk, and the client that waits for it.
struct Asked {
    socket: UnixStream,
    _client: Process,
    _tcp: TcpStream,
}

/// None where no more of them may be.
fn asked(control: &mut Control, context: u64) -> Option<Asked> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-psk", "6b6b", "-psk_identity", "us", "-tls1_3"]);
    let client = Process::start(&mut command);
    let tcp = listener.accept().expect("accepted").0;
    tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = Request::Connect(Connect::new(context, Role::Server, Mode::LockStep));
    let (_, socket) = control.pass::<Connecting>(&request, &[tcp.as_fd()]).ok()?;
    let mut socket = UnixStream::from(socket.expect("its socket"));
    socket.set_nonblocking(false).expect("a flag");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    tcp.peek(&mut [0]).expect("a ClientHello");
    socket.write_all(&LockStepRequest::Handshake.to_frame().expect("a frame")).expect("sent");
    let mut answer = [0; 256];
    let count = socket.read(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.contains("need_psk"), "{answer}");
    Some(Asked { socket, _client: client, _tcp: tcp })
}

/// The positive control. No process may be started meanwhile: it would have a copy of the socket until its exec, and
/// wait there.
fn whoever_closes_such_a_socket_waits() {
    let (own, peer) = lingering();
    let descriptor = format!("/proc/self/fd/{}", own.as_raw_fd());
    let socket = std::fs::read_link(&descriptor).expect("a descriptor");
    let closing = std::thread::spawn(move || drop(own));
    until("the close to begin", || std::fs::read_link(&descriptor).ok().as_ref() != Some(&socket));
    assert!(!closing.is_finished(), "the close waits");
    drop(peer);
    closing.join().expect("the close ends with its peer");
}

#[test]
fn finding_13_a_lingering_socket_for_an_answer_does_not_keep_a_thread_beyond_its_deadline() {
    whoever_closes_such_a_socket_waits();
    let daemon = daemon("handshake = 1\npsk_handshakes_per_owner = 1\n");
    let mut control = Control::open(&daemon.socket());
    let psk = Some(PskSpec { ask: true, ..PskSpec::default() });
    let context = control.context(ContextSpec { psk, ..ContextSpec::default() }).expect("a context");
    let first = asked(&mut control, context).expect("a handshake that asks");
    let (stream, peer) = lingering();
    transport::send(&first.socket, b"x", &[stream.as_fd()], SendFlags::empty()).expect("sent");
    drop(stream);
    let mut second = None;
    until("the first handshake's thread to end", || {
        second = asked(&mut control, context);
        second.is_some()
    });
    drop(peer);
}
