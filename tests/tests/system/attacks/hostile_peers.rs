//! What peers do at their worst, again and again: servers that the granted attacker connects to (finding 8), and idle
//! connections to listeners (finding 11).

use super::bystander::Attacker;
use super::peers::tcp_from;
use luassl_protocol::{Bind, Bound, ContextSpec, Request, option_sum};
use luassl_tests::peer::{Server, Tls, only, renegotiate, tcp, update_keys};
use luassl_tests::wire::{Control, unverified};
use openssl::bn::BigNum;
use openssl::dh::Dh;
use openssl::ssl::SslContextBuilder;
use openssl::x509::X509;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// As many as one owner may have under way.
const IDLE: usize = 1024;

/// Where they come from; the bystander's clients have another address.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A certificate whose key has explicit parameters of a prime of 661 bits, and two compressed points: OpenSSL computes a square
/// root of each, for ten milliseconds.
const COSTLY_CERTIFICATE: &[u8] = include_bytes!("costly_certificate.der");

/// As many of them as one message of OpenSSL's default bound has.
const COSTLY_CERTIFICATES: usize = 145;

/// How long a hostile server waits for its client.
const WAIT: Duration = Duration::from_millis(500);

/// How long it gives its client for one renegotiation.
const TURN: Duration = Duration::from_millis(50);

/// Servers of the attacker's own.
pub(crate) struct Servers {
    renegotiating: Server,
    updating: Server,
    large_prime: Server,
    costly_certificates: Server,
}

impl Servers {
    pub(crate) fn start() -> Self {
        let with_prime = |prime: fn() -> Result<BigNum, openssl::error::ErrorStack>| {
            Server::start("server-rsa", move |builder| dhe(builder, prime().expect("a prime")))
        };
        Self {
            renegotiating: with_prime(BigNum::get_rfc3526_prime_4096),
            updating: Server::start("server-p256", |builder| only(builder, "TLSv1.3")),
            large_prime: with_prime(BigNum::get_rfc3526_prime_8192),
            costly_certificates: Server::start("server-p256", |builder| {
                let one = X509::from_der(COSTLY_CERTIFICATE).expect("a certificate");
                (0..COSTLY_CERTIFICATES)
                    .for_each(|_| builder.add_extra_chain_cert(one.clone()).expect("a chain"));
            }),
        }
    }
}

/// The server computes with this prime, and so must its clients.
fn dhe(builder: &mut SslContextBuilder, prime: BigNum) {
    only(builder, "TLSv1.2");
    builder.set_cipher_list(DHE).expect("a cipher");
    let group = Dh::from_pqg(prime, None, BigNum::from_u32(2).expect("a number")).expect("a group");
    builder.set_tmp_dh(&group).expect("a group");
}

const DHE: &str = "DHE-RSA-AES128-GCM-SHA256";

/// A client that takes any certificate, computes DHE, and lets its server renegotiate.
fn willing() -> ContextSpec {
    let options = option_sum(["OP_ALLOW_CLIENT_RENEGOTIATION"]).expect("an option");
    ContextSpec { options: Some(options), ciphers: Some(DHE.into()), ..unverified() }
}

/// Has the front connect to a server: the plaintext's socket and the server's end, where the handshake succeeds.
fn connected(control: &mut Control, context: u64, server: &Server) -> Option<(UnixStream, Tls)> {
    let tcp = tcp(server.port()).ok()?;
    let (_, socket) = control.connect(context, tcp.as_fd()).ok()?;
    let ours = server.accept_tcp().ok()?;
    ours.set_read_timeout(Some(WAIT)).and_then(|()| ours.set_write_timeout(Some(WAIT))).ok()?;
    let tls = server.handshake(ours).ok()?;
    tls.get_ref().set_read_timeout(Some(TURN)).ok()?;
    Some((socket?.into(), tls))
}

/// Connects again and again, and has the server ask until the front ends the connection.
fn asked_for(attacker: &Attacker, server: &Server, ask: fn(&mut Tls) -> bool) {
    let mut control = Control::open(&attacker.socket);
    let context = control.context(willing()).expect("a context");
    while attacker.goes_on() {
        if let Some((_plaintext, mut tls)) = connected(&mut control, context, server) {
            while attacker.goes_on() && ask(&mut tls) {}
        }
    }
}

pub(crate) fn renegotiations(attacker: &Attacker) {
    asked_for(attacker, &attacker.servers.renegotiating, renegotiate);
}

pub(crate) fn key_updates(attacker: &Attacker) {
    asked_for(attacker, &attacker.servers.updating, update_keys);
}

pub(crate) fn costly_certificates(attacker: &Attacker) {
    asked_for(attacker, &attacker.servers.costly_certificates, |_| false);
}

pub(crate) fn large_primes(attacker: &Attacker) {
    asked_for(attacker, &attacker.servers.large_prime, |_| false);
}

/// Keeps as many idle connections to a port as one owner may have under way.
fn idle(attacker: &Attacker, port: u16) {
    let mut held: Vec<TcpStream> = Vec::with_capacity(IDLE);
    while attacker.goes_on() {
        while held.len() < IDLE && attacker.goes_on() {
            let tcp = tcp_from(SOURCE, port);
            // A reset at the end: no port stays taken.
            sockopt::set_socket_linger(&tcp, Some(Duration::ZERO)).expect("a linger");
            held.push(tcp);
        }
        let ended = ended(&held);
        let mut ended = ended.iter();
        held.retain(|_| ended.next() == Some(&false));
    }
}

/// Which of them the front has ended; waits for one.
fn ended(held: &[TcpStream]) -> Vec<bool> {
    let mut polled: Vec<_> = held.iter().map(|tcp| PollFd::new(tcp, PollFlags::IN)).collect();
    let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    poll(&mut polled, Some(&wait)).expect("a wait");
    polled.iter().map(|polled| !polled.revents().is_empty()).collect()
}

pub(crate) fn idle_at_its_own_listener(attacker: &Attacker) {
    let mut control = Control::open(&attacker.socket);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let _delivery = bound(&mut control, &listener);
    idle(attacker, listener.local_addr().expect("an address").port());
}

pub(crate) fn idle_at_the_bystanders_listener(attacker: &Attacker) {
    idle(attacker, attacker.port);
}

/// Gives the front a listening socket, and gets the socket that its connections come by.
pub(crate) fn bound(control: &mut Control, listener: &TcpListener) -> OwnedFd {
    let identity = Some("server-p256".into());
    let context = control.context(ContextSpec { identity, ..ContextSpec::default() }).expect("a context");
    let bind = Request::Bind(Bind { context, listener: None });
    let (Bound { .. }, delivery) = control.pass(&bind, &[listener.as_fd()]).expect("a listener");
    delivery.expect("its delivery socket")
}
