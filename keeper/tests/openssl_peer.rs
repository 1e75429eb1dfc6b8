//! The keeper recognises every message that OpenSSL itself signs. The messages are those of `openssl s_client -msg`,
//! put together as the RFC says; that its peer's signature verifies over them proves that they are what was signed.

mod kit;

use kit::Bench;
use luassl_keeper::handshake_message::{HandshakeMessage, is_own_leaf};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

const P521: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-521";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_VERIFY: u8 = 15;

/// A process that does not outlive the test by more than a minute.
struct Openssl(Child);

impl Openssl {
    fn start(bench: &Bench, arguments: &str, output: Stdio) -> Self {
        let mut command = Command::new("timeout");
        command
            .args(["60", "openssl"])
            .args(arguments.split_whitespace())
            .current_dir(bench.directory.path());
        command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::null());
        Self(command.spawn().expect("started"))
    }

    fn say(&mut self, text: &str) {
        self.0.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("said");
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        // `timeout` passes the signal on, and either may have ended already.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.0),
            rustix::process::Signal::TERM,
        );
        let _ = self.0.wait();
    }
}

/// The handshake messages of each handshake on a connection between s_server and s_client, headers included. With
/// `again`, the server asks for a second handshake, and for the client's certificate.
fn handshakes(bench: &Bench, server: &str, client: &str, again: bool) -> Vec<Vec<Vec<u8>>> {
    let path = bench.path("peer.socket");
    let _ = std::fs::remove_file(&path);
    let mut server = Openssl::start(
        bench,
        &format!("s_server -unix peer.socket -key a.key -cert a.crt {server}"),
        Stdio::null(),
    );
    while !path.exists() {
        assert!(server.0.try_wait().expect("a child").is_none(), "s_server has ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut client =
        Openssl::start(bench, &format!("s_client -msg -unix peer.socket {client}"), Stdio::piped());
    let mut output = BufReader::new(client.0.stdout.take().expect("a pipe"));
    let mut all = vec![messages(&mut output)];
    if again {
        server.say("R\n");
        all.push(messages(&mut output));
    }
    all
}

/// Reads messages up to the second Finished.
fn messages(output: &mut impl BufRead) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let (mut finished, mut within) = (0, false);
    for line in output.lines() {
        let line = line.expect("text");
        if line.starts_with(">>> ") || line.starts_with("<<< ") {
            within = line.contains(", Handshake ");
            finished += u32::from(within && line.ends_with(", Finished"));
            if finished == 2 {
                return messages;
            }
            if within {
                messages.push(Vec::new());
            }
        } else if let Some(hex) = line.strip_prefix("    ").filter(|_| within) {
            let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
            messages.last_mut().expect("a message").extend(bytes);
        } else {
            within = false;
        }
    }
    panic!("the handshake did not finish")
}

fn message(messages: &[Vec<u8>], kind: u8) -> &[u8] {
    messages.iter().find(|message| message[0] == kind).expect("a message of that kind")
}

/// Scheme and signature at the end of a message, behind `prefix` bytes of its body.
fn signature(message: &[u8], prefix: usize) -> (u16, &[u8]) {
    let end = &message[4 + prefix..];
    let length = usize::from(u16::from_be_bytes([end[2], end[3]]));
    assert_eq!(end.len(), 4 + length);
    (u16::from_be_bytes([end[0], end[1]]), &end[4..])
}

/// What a TLS 1.2 client's CertificateVerify signs: everything before it, but for HelloRequest.
fn transcript(messages: &[Vec<u8>]) -> Vec<u8> {
    let before = messages.iter().take_while(|message| message[0] != CERTIFICATE_VERIFY);
    before.filter(|message| message[0] != 0).flatten().copied().collect()
}

fn check_client(bench: &Bench, messages: &[Vec<u8>]) {
    let transcript = transcript(messages);
    let (scheme, signature) = signature(message(messages, CERTIFICATE_VERIFY), 0);
    assert!(bench.verifies("b", scheme, &transcript, signature));
    let Ok(HandshakeMessage::Client12 { leaf }) = HandshakeMessage::of(&transcript) else {
        panic!("{:?}", HandshakeMessage::of(&transcript));
    };
    let [own, other] = ["b", "a"].map(|name| {
        bench.openssl(&format!("x509 -in {name}.crt -outform DER -out {name}.der"));
        bench.read(&format!("{name}.der"))
    });
    assert!(is_own_leaf(leaf, [own.as_slice()], b""));
    assert!(!is_own_leaf(leaf, [other.as_slice()], b""));
}

fn check_server(bench: &Bench, messages: &[Vec<u8>]) {
    let exchange = message(messages, SERVER_KEY_EXCHANGE);
    let length = parameters_length(&exchange[4..]);
    let random = |kind| &message(messages, kind)[6..38];
    let signed = [random(CLIENT_HELLO), random(SERVER_HELLO), &exchange[4..4 + length]].concat();
    let (scheme, signature) = signature(exchange, length);
    assert!(bench.verifies("a", scheme, &signed, signature));
    assert!(matches!(
        HandshakeMessage::of(&signed),
        Ok(HandshakeMessage::Ecdhe12 { .. } | HandshakeMessage::Dhe12)
    ));
}

fn parameters_length(body: &[u8]) -> usize {
    if body[..2] == [3, 0] && body[2] < 64 {
        return 4 + usize::from(body[3]);
    }
    let mut length = 0;
    for _ in 0..3 {
        length += 2 + usize::from(u16::from_be_bytes([body[length], body[length + 1]]));
    }
    length
}

#[test]
fn what_servers_sign_in_tls_1_2_has_its_shape() {
    for kind in [RSA, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-algorithm ED25519"] {
        let bench = Bench::new();
        bench.identity("a", kind);
        // The certificate's own curve must be among the groups, too.
        for groups in ["P-256", "P-384:P-256", "P-521:P-256", "X25519:P-256", "X448:P-256"] {
            let groups = format!("-groups {groups}");
            check_server(&bench, &handshakes(&bench, &groups, &format!("-tls1_2 {groups}"), false)[0]);
        }
    }
}

#[test]
fn what_servers_sign_with_dhe_has_its_shape() {
    let bench = Bench::new();
    bench.identity("a", RSA);
    let client = "-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256";
    check_server(&bench, &handshakes(&bench, "", client, false)[0]);
    for group in ["ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"] {
        bench.openssl(&format!("genpkey -genparam -algorithm DH -pkeyopt group:{group} -out dh.pem"));
        check_server(&bench, &handshakes(&bench, "-dhparam dh.pem", client, false)[0]);
    }
}

#[test]
fn what_clients_sign_in_tls_1_2_has_its_shape() {
    for kind in [
        RSA,
        "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        P521,
        "-algorithm ED25519",
        "-algorithm ED448",
    ] {
        let bench = Bench::new();
        bench.identity("a", RSA);
        bench.identity("b", kind);
        let ciphers = ["ECDHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "AES128-GCM-SHA256"];
        for cipher in ciphers {
            let client = format!("-tls1_2 -key b.key -cert b.crt -status -cipher {cipher}");
            let handshakes = handshakes(&bench, "-Verify 1", &client, false);
            check_client(&bench, &handshakes[0]);
        }
    }
}

#[test]
fn what_clients_sign_when_they_negotiate_again_has_its_shape() {
    let bench = Bench::new();
    bench.identity("a", RSA);
    bench.identity("b", RSA);
    let handshakes = handshakes(&bench, "-no_ticket -no_cache", "-tls1_2 -key b.key -cert b.crt", true);
    assert!(handshakes[0].iter().all(|message| message[0] != CERTIFICATE_VERIFY));
    assert!(handshakes[1].iter().any(|message| message[0] == 0), "no HelloRequest");
    check_client(&bench, &handshakes[1]);
}
