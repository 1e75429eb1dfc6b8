//! Handshakes with OpenSSL's own programs, whose keys are their own.

use crate::kit::pki::{Authority, Kind, Wanted};
use crate::kit::world::{World, of};
use crate::{Context, peer_certificate, report::summary::summary};
use luassl_protocol::{ContextSpec, ProtocolVersion, Role, VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER};
use openssl::ssl::SslStream;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const KINDS: [Kind; 6] = Kind::ALL;
const VERSIONS: [(ProtocolVersion, &str); 2] =
    [(ProtocolVersion::Tls12, "-tls1_2"), (ProtocolVersion::Tls13, "-tls1_3")];

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(directory: &Path, arguments: &[&str]) -> Running {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// A directory with the root's certificate, and a certificate with its key of the peer's own.
fn files(kind: Kind) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let key = kind.generate();
    let leaf = Authority::root().issue(&Wanted::leaf(&["peer.test"]), &key);
    let write = |name: &str, bytes: Vec<u8>| fs::write(directory.path().join(name), bytes).unwrap();
    write("root.pem", Authority::root().pem());
    write("peer.pem", leaf.to_pem().unwrap());
    write("peer.key", key.private_key_to_pem_pkcs8().unwrap());
    directory
}

fn world(kind: Kind) -> World {
    World::with([Authority::root().identity("own", kind, &["own.test"])])
}

#[test]
fn s_client_verifies_us_and_we_verify_it() {
    for (kind, (version, flag)) in KINDS.into_iter().flat_map(|kind| VERSIONS.map(|version| (kind, version)))
    {
        let (world, files) = (world(kind), files(kind));
        let verify = Some(VERIFY_PEER + VERIFY_FAIL_IF_NO_PEER_CERT);
        let context = world.context(&ContextSpec { verify, ..of("own") });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut peer = openssl(
            files.path(),
            &[
                "s_client",
                flag,
                "-quiet",
                "-connect",
                &address,
                "-servername",
                "own.test",
                "-CAfile",
                "root.pem",
                "-verify_return_error",
                "-verify_hostname",
                "own.test",
                "-cert",
                "peer.pem",
                "-key",
                "peer.key",
            ],
        );
        let socket = listener.accept().unwrap().0;
        let mut session = SslStream::new(context.session(Role::Server, None, None).unwrap(), socket).unwrap();
        session.do_handshake().unwrap_or_else(|error| panic!("{kind:?} {flag}: {error}"));
        assert_eq!(peer_certificate(session.ssl()).names, ["peer.test"]);
        assert_eq!(summary(session.ssl()).protocol, name(version));
        assert_eq!(summary(session.ssl()).sni.as_deref(), Some("own.test"));
        session.write_all(b"from us\n").unwrap();
        assert_eq!(line(&mut peer.0), "from us\n");
        peer.0.stdin.as_mut().unwrap().write_all(b"from the peer\n").unwrap();
        let mut buffer = [0; 14];
        session.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"from the peer\n");
    }
}

#[test]
fn s_server_verifies_us_and_we_verify_it() {
    for (kind, (version, flag)) in KINDS.into_iter().flat_map(|kind| VERSIONS.map(|version| (kind, version)))
    {
        let (world, files) = (world(kind), files(kind));
        let context = world.context(&of("own"));
        let mut peer = openssl(
            files.path(),
            &[
                "s_server",
                flag,
                "-accept",
                "127.0.0.1:0",
                "-naccept",
                "1",
                "-Verify",
                "2",
                "-CAfile",
                "root.pem",
                "-verify_return_error",
                "-cert",
                "peer.pem",
                "-key",
                "peer.key",
            ],
        );
        let mut session = connect(&context, &accepting(&mut peer.0));
        assert_eq!(peer_certificate(session.ssl()).names, ["peer.test"]);
        assert_eq!(summary(session.ssl()).protocol, name(version));
        session.write_all(b"from us\n").unwrap();
        let mut heard = BufReader::new(peer.0.stdout.as_mut().unwrap());
        let mut line = String::new();
        while line != "from us\n" {
            line.clear();
            assert_ne!(heard.read_line(&mut line).unwrap(), 0, "{kind:?} {flag}: the peer has ended");
        }
        peer.0.stdin.as_mut().unwrap().write_all(b"from the peer\n").unwrap();
        let mut buffer = [0; 14];
        session.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"from the peer\n");
    }
}

fn connect(context: &Context, address: &str) -> SslStream<TcpStream> {
    let session = context.session(Role::Client, Some("peer.test"), None).unwrap();
    let mut session = SslStream::new(session, TcpStream::connect(address).unwrap()).unwrap();
    session.do_handshake().unwrap_or_else(|error| panic!("{error}"));
    session
}

/// The address that `s_server` says it accepts on.
fn accepting(peer: &mut Child) -> String {
    let mut heard = String::new();
    let output = peer.stdout.as_mut().unwrap();
    // Byte by byte, so that nothing is taken that a later reader waits for.
    while !heard.contains("ACCEPT") || !heard.ends_with('\n') {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        heard.push(char::from(byte[0]));
    }
    heard.lines().find_map(|line| line.strip_prefix("ACCEPT ")).unwrap().to_owned()
}

fn line(peer: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(peer.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

fn name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::Tls12 => "TLSv1.2",
        ProtocolVersion::Tls13 => "TLSv1.3",
    }
}
