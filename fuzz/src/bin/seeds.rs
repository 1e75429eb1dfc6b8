//! `seeds`: writes the first inputs of each corpus anew, one of each message and file that there is. To be run when
//! messages change; what a fuzzer has found beside them stays.

use luassl_keeper_ipc::{admin, front};
use std::io;
use std::path::Path;
use std::process::Command;

fn main() -> io::Result<()> {
    vectors()?;
    keeper_messages()?;
    structures()?;
    configurations()?;
    settings()?;
    files()?;
    hellos()?;
    peer_certificates()
}

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join(name), bytes)
}

fn repository(path: &str) -> io::Result<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path))
}

/// The vectors of PROTOCOL.md.
fn vectors() -> io::Result<()> {
    let page = repository("protocol/PROTOCOL.md")?;
    for block in page.split("```vector ").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let Some((title, hex)) =
            block.split_once('\n').and_then(|(title, rest)| Some((title, rest.split_once("\n=\n")?.1)))
        else {
            continue;
        };
        let bytes: Vec<u8> =
            hex.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let name = title.replace([' ', '_'], "-");
        // The length before a frame's body is for the target of frames alone.
        let body = bytes.get(4..).unwrap_or_default();
        match title.split(' ').next() {
            Some("request") => write("control", &name, &bytes)?,
            Some("answer" | "failure" | "result") => write("answers", &name, body)?,
            Some("delivery") => write("answers", &name, &bytes)?,
            _ => write("lock_step", &name, body)?,
        }
    }
    Ok(())
}

fn keeper_messages() -> io::Result<()> {
    let mut out = Vec::new();
    let save = |name: &str, encoded: Result<(), luassl_keeper_ipc::TooLong>, out: &Vec<u8>| {
        encoded.map_err(io::Error::other).and_then(|()| write("keeper_messages", name, out))
    };
    let sign = front::Sign { call: 7, key_id: [9; 32], name: "www", scheme: 0x0403, message: b"message" };
    let identity = front::Identity {
        name: "www",
        generation: 3,
        key_id: [9; 32],
        public_key: b"key",
        chain: vec![b"leaf", b"issuer"],
        staple: b"staple",
    };
    let keys = [&[1; 32], &[2; 32], &[3; 32]].map(front::EpochKey);
    let tickets = front::Tickets { length: 43_200, number: 41_561, keys };
    let decrypt =
        front::Decrypt { call: 8, key_id: [9; 32], name: "www", version: 0x0303, ciphertext: &[0x42; 256] };
    for (name, request) in [
        ("subscribe", front::Request::Subscribe),
        ("sign", front::Request::Sign(sign)),
        ("decrypt", front::Request::Decrypt(decrypt)),
    ] {
        save(name, request.encode(&mut out), &out)?;
    }
    for (name, answer) in [
        ("identity", front::Answer::Identity(identity)),
        ("withdrawn", front::Answer::Withdrawn { name: "www" }),
        ("synced", front::Answer::Synced),
        ("signature", front::Answer::Signature { call: 7, bytes: b"signature" }),
        ("refused", front::Answer::Refused { call: 7, reason: front::Refusal::Role }),
        ("secret", front::Answer::Secret { call: 8, secret: front::PreMaster(&[0x42; front::PRE_MASTER]) }),
        ("tickets", front::Answer::Tickets(tickets)),
    ] {
        save(name, answer.encode(&mut out), &out)?;
    }
    let rights =
        admin::Rights { tls13_server: true, rsa_key_exchange: true, audit: true, ..admin::Rights::default() };
    let files = admin::Files { key: true, certificate: true, password: false, staple: true };
    for (name, request) in [
        (
            "front",
            admin::Request::Front { name: "default", rights, all: false, identities: vec!["www", "mail"] },
        ),
        ("push-identity", admin::Request::Identity { name: "www", files }),
        (
            "push-tickets",
            admin::Request::Tickets { epoch: 3600, root: true, domains: vec![("a", "b"), ("c", "b")] },
        ),
        ("rates", admin::Request::Rates(admin::Rates::default())),
        ("handshake", admin::Request::Handshake { deadline_ms: admin::HANDSHAKE_MS }),
        ("status", admin::Request::Status),
        ("begin", admin::Request::Begin { serial: 7 }),
        ("commit", admin::Request::Commit),
    ] {
        save(name, request.encode(&mut out), &out)?;
    }
    let loaded = admin::Loaded {
        name: "www",
        generation: 3,
        changed: true,
        key_type: "P-256",
        key_id: [7; 32],
        chain: vec![b"leaf", b"issuer"],
    };
    let refused = vec![(front::Refusal::Rate, 3), (front::Refusal::NotHandshake, 1)];
    let count = admin::Count { front: "default", identity: "www", signed: 7, decrypted: 0, refused };
    let (file, kind, reason) = (admin::Blamed::Key, admin::Fault::NoKey, "no key");
    for (name, answer) in [
        ("begun", admin::Answer::Begun { serial: 7 }),
        ("loaded", admin::Answer::Loaded(loaded)),
        (
            "failed",
            admin::Answer::Failed(admin::Failed { name: "www", file, kind, keeps_previous: true, reason }),
        ),
        ("tickets-taken", admin::Answer::TicketsTaken),
        ("tickets-failed", admin::Answer::TicketsFailed { kind, reason }),
        ("count", admin::Answer::Count(count)),
        ("counted", admin::Answer::Counted),
        ("committed", admin::Answer::Committed { warnings: vec!["no secret memory: see the log"] }),
    ] {
        save(name, answer.encode(&mut out), &out)?;
    }
    Ok(())
}

/// What the keeper is asked to sign.
fn structures() -> io::Result<()> {
    let tls13 = |text: &[u8], hash: usize| [&[0x20; 64], text, &[0x42; 48][..hash]].concat();
    write("handshake_message", "server-13", tls13(b"TLS 1.3, server CertificateVerify\0", 32))?;
    write("handshake_message", "client-13", tls13(b"TLS 1.3, client CertificateVerify\0", 48))?;
    write("handshake_message", "x25519", [&[0xee; 64], &[3, 0, 29, 32][..], &[0x42; 32]].concat())?;
    write("handshake_message", "p256", [&[0xee; 64], &[3, 0, 23, 65, 4][..], &[0x42; 64]].concat())?;
    let dh = [&[1, 0][..], &[0xff; 256], &[0, 1, 2, 1, 0], &[0x42; 256]].concat();
    write("handshake_message", "dh", [&[0xee; 64], &dh[..]].concat())?;
    let handshake = |kind: u8, body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
        [&[kind][..], &length[1..], body].concat()
    };
    let hello = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x2f], &[1, 0], &[0, 0]].concat();
    let certificate = [&[0, 0, 7][..], &[0, 0, 4], b"leaf"].concat();
    let flight = [
        handshake(1, &hello),
        handshake(2, &[&[3, 3][..], &[8; 32], &[0], &[0xc0, 0x2f, 0]].concat()),
        handshake(11, &certificate),
        handshake(12, b"parameters"),
        handshake(13, &[1, 64, 0, 2, 4, 3, 0, 0]),
        handshake(14, b""),
        handshake(11, &certificate),
        handshake(16, &[&[32][..], &[0x42; 32]].concat()),
    ];
    write("handshake_message", "client-12", flight.concat())
}

/// The samples of the documents, and one of everything.
fn configurations() -> io::Result<()> {
    for page in ["docs/configuration.md", "docs/deploy.md", "README.md"] {
        let text = repository(page)?;
        for (number, sample) in text.split("```toml\n").skip(1).enumerate() {
            let sample = sample.split("```").next().unwrap_or_default();
            let sample: String = sample
                .lines()
                .filter(|line| !line.contains("directory"))
                .fold(String::new(), |text, line| text + line + "\n");
            let name = page.replace(['/', '.'], "-");
            write("configuration", &format!("{name}-{number}"), sample)?;
        }
    }
    let everything = "[control]\nsocket='/s'\nmode=0o660\ngroup=0\n[socket.t]\npath='/t'\n[front.default]\n\
        keeper_socket='/k'\nidentities=['a']\nroles=['server']\nlisteners=['l']\nticket_domain='d'\n[identity.a]\n\
        key='credential:k'\ncertificate='c'\npassword_file='p'\nstaple='o'\naliases=['b']\n[trust.x]\nfile='f'\n\
        crl='r'\n[listener.l]\naddress='[::]:443'\n[[grant]]\nuser=0\nidentities=['*']\nroles=['client']\n\
        listeners=['l']\nlisten=false\nminimum_protocol='TLSv1.3'\nmax_contexts=3\n[limits]\nhandshake=2.5\n\
        frame_bytes=65536\n[tickets]\nepoch=60\nlifetime=60\nroot='r'\n[log]\nlevel='debug'\nformat='journal'\n";
    write("configuration", "everything", everything)?;
    write(
        "configuration",
        "mistakes",
        "[identity.a]\nkay = 3\n[[grant]]\nuser = 'nobody-here'\nroles = ['sever']\n",
    )
}

fn settings() -> io::Result<()> {
    use luassl_settings::{Grant, Grantee, IdentitySettings, Settings, TrustSettings};
    let grant = Grant {
        grantee: Grantee::Socket("tenant".to_owned()),
        identities: vec!["*".to_owned()],
        server: true,
        client: false,
        listeners: vec!["https".to_owned()],
        listen: true,
        connect: true,
        minimum_protocol: luassl_protocol::ProtocolVersion::Tls13,
        verify_required: true,
        key_log: false,
        rsa_key_exchange: false,
        dhe: false,
        audit: true,
        trusts: None,
        max_connections: Some(7),
        max_contexts: None,
    };
    let settings = Settings {
        front: "default".to_owned(),
        grants: vec![grant],
        identities: [("www".to_owned(), IdentitySettings { aliases: vec!["a".to_owned()], fault: None })]
            .into(),
        trusts: [("system".to_owned(), TrustSettings::default())].into(),
        listeners: vec!["https".to_owned()],
        session_lifetime_s: 7200,
        ..Settings::default()
    };
    let named = |value: &Settings| rmp_serde::to_vec_named(value).map_err(io::Error::other);
    write("settings", "full", named(&settings)?)?;
    write("settings", "empty", named(&Settings::default())?)?;
    write("settings", "header", b"\x82\xa7version\x01\xa9listeners\x91\xa5https")?;
    let reply = luassl_settings::PushReply::faulty("trust x is bad".to_owned());
    write("settings", "reply", reply.encode())
}

/// Runs `openssl` in a directory of its own, and gives what it prints.
fn openssl(directory: &Path, arguments: &str) -> io::Result<Vec<u8>> {
    let output =
        Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

fn files() -> io::Result<()> {
    let directory = std::env::temp_dir().join(format!("luassl-seeds-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let outcome = files_in(&directory);
    std::fs::remove_dir_all(&directory)?;
    outcome
}

/// Keys that are nobody's, their certificates, and the rest of what a PEM file may hold.
fn files_in(directory: &Path) -> io::Result<()> {
    let run = |arguments: &str| openssl(directory, arguments);
    let kinds = [
        ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("ed25519", "-algorithm ED25519"),
        ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ];
    for (name, kind) in kinds {
        let key = run(&format!("genpkey {kind}"))?;
        std::fs::write(directory.join("key"), &key)?;
        let certificate =
            run("req -x509 -new -key key -subj /CN=seed -addext subjectAltName=DNS:seed.test,IP:192.0.2.1")?;
        write("identity_files", name, &key)?;
        write("identity_files", &format!("{name}-chain"), [&key[..], &certificate].concat())?;
        write("trust_files", name, &certificate)?;
        write("material", name, [&certificate[..], &key].concat())?;
    }
    std::fs::write(directory.join("certificate"), run("req -x509 -new -key key -subj /CN=ca")?)?;
    write("identity_files", "pkcs1", run("pkey -in key -traditional")?)?;
    write("identity_files", "encrypted", run("pkey -in key -aes256 -passout pass:x")?)?;
    write("identity_files", "encrypted-pkcs1", run("rsa -in key -traditional -aes128 -passout pass:x")?)?;
    write("material", "cut", b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----BEGIN CERTIFICATE-----\nBBBB\n")?;
    std::fs::write(directory.join("index"), "")?;
    std::fs::write(directory.join("number"), "01\n")?;
    std::fs::write(
        directory.join("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=9\n",
    )?;
    write("trust_files", "crl", run("ca -config ca.cnf -gencrl -keyfile key -cert certificate")?)?;
    write("trust_files", "dh", run("genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048")?)?;
    write("trust_files", "two", std::fs::read(directory.join("certificate"))?.repeat(2))?;
    // An OCSP response that says that the responder is not willing: `unauthorized`.
    write("identity_files", "ocsp", [0x30, 3, 0x0a, 1, 6])
}

/// First flights of OpenSSL's own.
fn hellos() -> io::Result<()> {
    use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslStream, SslVersion};
    for (name, version) in [("tls12", SslVersion::TLS1_2), ("tls13", SslVersion::TLS1_3)] {
        let hello = |server_name: &str| -> io::Result<Vec<u8>> {
            let made = || -> Result<Ssl, openssl::error::ErrorStack> {
                let mut builder = SslContextBuilder::new(SslMethod::tls())?;
                builder.set_max_proto_version(Some(version))?;
                builder.set_alpn_protos(b"\x02h2\x08http/1.1")?;
                let mut ssl = Ssl::new(&builder.build())?;
                ssl.set_connect_state();
                ssl.set_hostname(server_name)?;
                Ok(ssl)
            };
            let mut stream = SslStream::new(made()?, Tape::default())?;
            // It waits for an answer that does not come.
            let _ = stream.do_handshake();
            Ok(std::mem::take(&mut stream.get_mut().written))
        };
        write("client_hello", name, hello("one.test")?)?;
        write("client_hello", &format!("{name}-wildcard"), hello("a.two.test")?)?;
    }
    let hello13 = [
        &[0x16, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3][..],
        &[9; 32],
        &[32],
        &[7; 32],
        &[0x13, 1, 0, 0, 14, 0, 43, 0, 2, 3, 4, 0, 51, 0, 4, 0, 29, 0, 0],
    ];
    write("server_hello", "tls13", hello13.concat())?;
    let hello12 =
        [&[0x16, 3, 3, 0, 49, 2, 0, 0, 45, 3, 3][..], &[9; 32], &[0, 0xc0, 0x2b, 0, 0, 5, 0xff, 1, 0, 1, 0]];
    write("server_hello", "tls12", hello12.concat())?;
    write("server_hello", "alert", [0x15, 3, 3, 0, 2, 2, 40])?;
    write("server_hello", "http", b"HTTP/1.1 400 Bad Request\r\n\r\n")
}

/// Keeps what is written; has nothing to read.
#[derive(Default)]
struct Tape {
    written: Vec<u8>,
}

impl io::Read for Tape {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl io::Write for Tape {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bodies of Certificate messages, and certificates with a good key and with one that is refused.
fn peer_certificates() -> io::Result<()> {
    use openssl::ec::{Asn1Flag, EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::x509::X509Builder;
    let certificate = |key: &PKey<openssl::pkey::Private>| {
        let mut builder = X509Builder::new()?;
        builder.set_pubkey(key)?;
        builder.sign(key, MessageDigest::sha256())?;
        builder.build().to_der()
    };
    let ec = |flag: Asn1Flag| {
        let mut group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        group.set_asn1_flag(flag);
        certificate(&PKey::from_ec_key(EcKey::generate(&group)?)?)
    };
    let (named, explicit) = (ec(Asn1Flag::NAMED_CURVE)?, ec(Asn1Flag::EXPLICIT_CURVE)?);
    let rsa = certificate(&PKey::from_rsa(Rsa::generate(2048)?)?)?;
    let long = |bytes: &[u8]| -> Vec<u8> {
        let [.., high, middle, low] = bytes.len().to_be_bytes();
        [&[high, middle, low], bytes].concat()
    };
    write("peer_certificates", "tls12", long(&[long(&named), long(&rsa)].concat()))?;
    let with_extensions = [&long(&named)[..], &[0, 0], &long(&rsa), &[0, 0]].concat();
    write("peer_certificates", "tls13", [&[0][..], &long(&with_extensions)].concat())?;
    for (name, der) in [("named", named), ("explicit", explicit), ("rsa", rsa)] {
        write("peer_certificates", name, der)?;
    }
    Ok(())
}
