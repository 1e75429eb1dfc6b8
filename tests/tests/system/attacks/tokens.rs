//! Attack 8: a token that was guessed, overheard or kept gets its holder nothing of another owner's; a connection's socket
//! reaches that connection alone.

use luassl_protocol::{
    ConnectionRef, Export, Info, PeerMatches, Request, SetOption, SocketOption, Status, Token, decode_reply,
};
use luassl_tests::daemon::Daemon;
use luassl_tests::peer::{Server, Tls, tcp};
use luassl_tests::wire::{Control, Stream};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Two owners: whoever runs the test, by two sockets.
const TWO_OWNERS: &str = "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n\
     [socket.tenant]\npath = 'DIR/tenant.sock'\n[[grant]]\nuser = UID\nroles = ['client']\n";

/// A daemon for two owners, and a connection of the first with its peer.
struct Scene {
    daemon: Daemon,
    server: Server,
    control: Control,
    stream: Stream,
    peer: Tls,
}

impl Scene {
    fn new(config: &str) -> Self {
        let daemon = Daemon::with_config(config);
        let server = Server::start("server-p256", |_| {});
        let mut control = Control::open(&daemon.socket());
        let (stream, peer) = connect(&mut control, &server);
        Self { daemon, server, control, stream, peer }
    }

    fn tenant(&self) -> PathBuf {
        self.daemon.directory().join("tenant.sock")
    }

    /// The connection carries plaintext both ways.
    fn goes_on(&mut self) {
        carries(&mut self.stream, &mut self.peer);
    }
}

fn connect(control: &mut Control, server: &Server) -> (Stream, Tls) {
    let tcp = tcp(server.port()).expect("tcp");
    control.stream(&tcp, || server.accept().expect("a handshake"))
}

fn carries(stream: &mut Stream, peer: &mut Tls) {
    let mut came = [0; 4];
    stream.socket.write_all(b"out.").expect("written");
    peer.read_exact(&mut came).expect("read");
    assert_eq!(&came, b"out.");
    peer.write_all(b"in..").expect("written");
    stream.socket.read_exact(&mut came).expect("read");
    assert_eq!(&came, b"in..");
}

/// Everything that can be asked of a token.
fn questions(token: Token) -> Vec<Request> {
    let of = ConnectionRef { token };
    vec![
        Request::Status(of.clone()),
        Request::Info(of.clone()),
        Request::PeerCertificate(of.clone()),
        Request::PeerMatches(PeerMatches { token, host: "localhost".into() }),
        Request::Export(Export { token, label: "EXPORTER-test".into(), length: 32, context: None }),
        Request::SetOption(SetOption { token, option: SocketOption::NoDelay, on: true }),
        Request::Renegotiate(of.clone()),
        Request::Close(of),
    ]
}

/// What whoever comes in by `path` is answered about a token.
fn answers(path: &Path, token: Token) -> Vec<Vec<u8>> {
    let mut control = Control::open(path);
    questions(token).iter().map(|question| control.exchange(77, question, &[]).body).collect()
}

/// Asked about `token`, `path` gives what it gives for a token that nobody has, byte by byte: a refusal.
fn knows_nothing_of(path: &Path, token: Token) {
    let unknown = answers(path, Token::new([0x5a; 16]));
    assert_eq!(answers(path, token), unknown);
    for answer in unknown {
        let (_, reply) = decode_reply::<Status>(&answer).expect("an answer");
        reply.expect_err("a refusal");
    }
}

#[test]
fn attack_8_a_token_of_another_owners_is_as_unknown_as_any() {
    let mut scene = Scene::new(TWO_OWNERS);
    knows_nothing_of(&scene.tenant(), scene.stream.token);
    // It was asked to close, too.
    scene.goes_on();
}

/// Positive control: for its owner it is good, on any control connection.
#[test]
fn attack_8_a_token_serves_its_owner_on_another_control_connection() {
    let mut scene = Scene::new(TWO_OWNERS);
    let of = ConnectionRef { token: scene.stream.token };
    let mut other = Control::open(&scene.daemon.socket());
    assert_eq!(other.ask::<Info>(&Request::Info(of.clone())).expect("facts").protocol, "TLSv1.3");
    assert!(other.ask::<Status>(&Request::Status(of)).expect("a status").open);
    scene.goes_on();
}

#[test]
fn attack_8_a_token_of_an_ended_connection_is_as_unknown_to_another_owner() {
    let scene = Scene::new(TWO_OWNERS);
    let (tenant, token) = (scene.tenant(), scene.stream.token);
    let Scene { daemon, server, mut control, stream, peer } = scene;
    drop((stream, peer));
    luassl_tests::until("the connection's end", || {
        let status: Result<Status, _> = control.ask(&Request::Status(ConnectionRef { token }));
        // Its owner learns how it ended.
        status.is_ok_and(|status| !status.open)
    });
    knows_nothing_of(&tenant, token);
    drop((daemon, server));
}

#[test]
fn attack_8_a_token_that_is_one_bit_off_is_unknown_to_its_owner_too() {
    let mut scene = Scene::new(TWO_OWNERS);
    for bit in 0..128 {
        let mut bytes = *scene.stream.token;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let of = ConnectionRef { token: Token::new(bytes) };
        scene.control.ask::<Info>(&Request::Info(of)).expect_err("a refusal");
    }
    scene.goes_on();
}

#[test]
fn attack_8_nothing_about_a_token_follows_from_another() {
    const TOKENS: usize = 64;
    let mut scene = Scene::new(TWO_OWNERS);
    let mut kept = Vec::new();
    for _ in 0..TOKENS {
        kept.push(connect(&mut scene.control, &scene.server));
    }
    let tokens: BTreeSet<[u8; 16]> = kept.iter().map(|(stream, _)| *stream.token).collect();
    assert_eq!(tokens.len(), TOKENS);
    for place in 0..16 {
        // Of 64 random bytes less than 32 different ones are less likely than 1 in 10^16.
        let values: BTreeSet<u8> = tokens.iter().map(|token| token[place]).collect();
        assert!(values.len() >= 32, "byte {place} takes {} values", values.len());
    }
}

#[test]
fn attack_8_a_connections_socket_reaches_no_other_connection() {
    let mut scene = Scene::new(TWO_OWNERS);
    let (mut other, mut other_peer) = connect(&mut scene.control, &scene.server);
    for question in questions(scene.stream.token) {
        let frame = question.to_frame(1).expect("a frame");
        other.socket.write_all(&frame).expect("written");
        // To the front it is plaintext like any.
        let mut came = vec![0; frame.len()];
        other_peer.read_exact(&mut came).expect("read");
        assert_eq!(came, frame);
    }
    carries(&mut other, &mut other_peer);
    scene.goes_on();
}

mod needs_root {
    use super::*;
    use luassl_tests::daemon::STRANGER;
    use luassl_tests::process::as_user;

    #[test]
    fn attack_8_a_token_of_another_users_is_as_unknown_as_any() {
        let grant = format!("{TWO_OWNERS}[[grant]]\nuser = {STRANGER}\nroles = ['client']\n");
        let mut scene = Scene::new(&grant);
        let (socket, token) = (scene.daemon.socket(), scene.stream.token);
        as_user(STRANGER, move || knows_nothing_of(&socket, token));
        scene.goes_on();
    }
}
