//! Real TLS peers over loopback TCP.

use crate::runtime::tcp::Tcp;
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslStream, SslVerifyMode, SslVersion},
    x509::{X509, X509NameBuilder},
};
use rustix::net::sockopt;
use std::{
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    sync::LazyLock,
    time::Duration,
};

/// The time limit of each wait in these tests. It is reached only if something is broken.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

static PAIR: LazyLock<(PKey<Private>, X509)> = LazyLock::new(|| {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "localhost").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    (key, certificate.build())
});

/// Returns a context for either role, configured as the front's contexts are: moving write buffers, buffers released.
pub(crate) fn context(version: SslVersion) -> SslContextBuilder {
    let mut context = SslContext::builder(SslMethod::tls()).unwrap();
    context.set_mode(SslMode::ACCEPT_MOVING_WRITE_BUFFER | SslMode::RELEASE_BUFFERS | SslMode::AUTO_RETRY);
    // Tickets would stay unread at a client that only writes, and its close would then be a reset.
    context.set_num_tickets(0).unwrap();
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    context.set_private_key(&PAIR.0).unwrap();
    context.set_certificate(&PAIR.1).unwrap();
    context.set_verify(SslVerifyMode::NONE);
    context
}

/// Returns a session for the front's side.
pub(crate) fn session(version: SslVersion) -> Ssl {
    Ssl::new(&context(version).build()).unwrap()
}

/// Returns both ends of a loopback TCP connection: the front's, then the peer's, whose reads and writes have a time
/// limit.
pub(crate) fn tcp_pair() -> (Tcp, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(BOUND)).unwrap();
    peer.set_write_timeout(Some(BOUND)).unwrap();
    let (front, _) = listener.accept().unwrap();
    (Tcp::new(front.into()), peer)
}

/// Returns a pair as [`tcp_pair`] does, with small buffers.
pub(crate) fn tight_tcp_pair() -> (Tcp, TcpStream) {
    let (front, peer) = tcp_pair();
    let sockets = [front.as_fd(), peer.as_fd()];
    for socket in sockets {
        sockopt::set_socket_send_buffer_size(socket, 8192).unwrap();
        sockopt::set_socket_recv_buffer_size(socket, 8192).unwrap();
    }
    (front, peer)
}

/// Returns the established session of a peer that is a client.
pub(crate) fn client(version: SslVersion, tcp: TcpStream) -> SslStream<TcpStream> {
    let mut stream = SslStream::new(session(version), tcp).unwrap();
    stream.connect().unwrap();
    stream
}

/// Returns the established session of a peer that is a server.
pub(crate) fn server(version: SslVersion, tcp: TcpStream) -> SslStream<TcpStream> {
    let mut stream = SslStream::new(session(version), tcp).unwrap();
    stream.accept().unwrap();
    stream
}

/// Returns the number of bytes of a connection in the kernel: written by the peer and not arrived, and arrived and not
/// read by the front.
pub(crate) fn on_the_way(peer: &TcpStream) -> (usize, usize) {
    let port = |address: std::net::SocketAddr| format!("0100007F:{:04X}", address.port());
    let (peers, fronts) = (port(peer.local_addr().unwrap()), port(peer.peer_addr().unwrap()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = |local: &str, remote: &str| {
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let line = table.lines().map(fields).find(|line| line[1] == local && line[2] == remote).unwrap();
        let (sending, receiving) = line[4].split_once(':').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(sending), number(receiving))
    };
    (queues(&peers, &fronts).0, queues(&fronts, &peers).1)
}
