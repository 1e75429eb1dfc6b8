//! A keeper in a thread, a supervisor's and a front's side of its sockets, and keys made by the `openssl` command.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod process;

use luassl_keeper::{InheritedSocket, Purpose, serve};
use luassl_keeper_ipc::admin::{self, Files, Rights};
use luassl_keeper_ipc::front::{self, Answer, Refusal, Sign};
use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, socketpair,
    sockopt,
};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

pub const BOTH: Rights = Rights {
    tls13_server: true,
    tls12_server: true,
    dhe: true,
    rsa_key_exchange: false,
    tls13_client: true,
    tls12_client: true,
    audit: false,
};

/// No test waits longer for one datagram; it is a bound on failing, not something measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for keys and sockets.
pub struct Bench {
    pub directory: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { directory: TempDir::new().expect("directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `openssl` in the directory.
    pub fn openssl(&self, arguments: &str) -> bool {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(self.directory.path());
        let output = command.output().expect("the openssl command is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || arguments.contains("verify"), "openssl {arguments}: {errors}");
        output.status.success()
    }

    /// A key in PKCS#8 and a self-signed certificate for it: NAME.key and NAME.crt.
    pub fn identity(&self, name: &str, kind: &str) {
        self.openssl(&format!("genpkey {kind} -out {name}.key"));
        self.self_sign(name, "-days 365");
    }

    pub fn self_sign(&self, name: &str, options: &str) {
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={name} -addext subjectAltName=DNS:{name}.example,IP:192.0.2.1 \
             {options} -out {name}.crt"
        ));
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("written");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("read")
    }

    pub fn join(&self, name: &str, parts: &[&str]) {
        let content: Vec<u8> = parts.iter().flat_map(|part| self.read(part)).collect();
        self.write(name, content);
    }

    /// DER as a block of PEM.
    pub fn pem(&self, name: &str, label: &str, der: &[u8]) {
        self.write("der", der);
        self.openssl("base64 -in der -out base64");
        let body = String::from_utf8(self.read("base64")).expect("base64");
        self.write(name, format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n"));
    }

    /// A certificate for KEY.key that nobody can parse: its bytes are wrong, but for how it is built at its start and
    /// end, and for the public key in it. As PEM in FILE; what comes back is DER.
    pub fn garbage(&self, key: &str, file: &str) -> Vec<u8> {
        self.openssl(&format!("pkey -in {key}.key -pubout -outform DER -out spki"));
        let of =
            |content: &[u8]| [&[0x30, 0x81, u8::try_from(content.len()).expect("short")], content].concat();
        let start = [0xa0, 3, 2, 1, 2, 2, 1, 1, 0x30, 1, 0xff, 0x30, 1, 0xff];
        let signed = of(&[&start, &[0xff; 40][..], &self.read("spki"), &[0xff; 40]].concat());
        let certificate = of(&[&signed[..], &[0x30, 1, 0xff, 3, 1, 0xff]].concat());
        self.pem(file, "CERTIFICATE", &certificate);
        certificate
    }

    pub fn open(&self, name: &str) -> OwnedFd {
        File::open(self.path(name)).expect("opened").into()
    }

    /// Whether `openssl` finds the signature good for the public half of NAME.key.
    pub fn verifies(&self, name: &str, scheme: u16, message: &[u8], signature: &[u8]) -> bool {
        self.write("message", message);
        self.write("signature", signature);
        self.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
        if matches!(scheme, 0x0807 | 0x0808) {
            let check = "pkeyutl -verify -rawin -in message -sigfile signature -pubin -inkey";
            return self.openssl(&format!("{check} {name}.pub"));
        }
        let digest = match scheme {
            0x0401 | 0x0403 | 0x0804 => "sha256",
            0x0501 | 0x0503 | 0x0805 => "sha384",
            _ => "sha512",
        };
        let padding = match scheme >> 8 {
            8 => "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
            _ => "",
        };
        self.openssl(&format!("dgst -{digest} -verify {name}.pub {padding} -signature signature message"))
    }
}

/// A keeper in a thread of the test.
pub struct Keeper {
    pub bench: Bench,
    pub admin: Socket,
}

impl Keeper {
    /// Starts one with a listening socket for each front.
    pub fn start(fronts: &[&str]) -> Self {
        let bench = Bench::new();
        let (ours, theirs) = pair();
        let admin = InheritedSocket::new(Purpose::Admin, theirs).expect("a socket");
        let fronts = fronts.iter().map(|name| {
            let listener = listener(&bench.path(&format!("{name}.socket")));
            InheritedSocket::new(Purpose::Front((*name).to_owned()), listener).expect("a socket")
        });
        let sockets: Vec<_> = std::iter::once(admin).chain(fronts).collect();
        std::thread::spawn(move || serve(sockets).expect("serves"));
        Self { bench, admin: Socket::new(ours) }
    }

    pub fn connect(&self, front: &str) -> Socket {
        Socket::new(dial(&self.bench.path(&format!("{front}.socket"))))
    }

    pub fn front(&self, name: &str, rights: Rights, identities: Option<&[&str]>) {
        let all = identities.is_none();
        let identities = identities.unwrap_or_default().to_vec();
        self.admin.ask(&admin::Request::Front { name, rights, all, identities }, &[]);
    }

    /// Pushes an identity by file names, in the order key, certificate, password, staple; answers as text.
    pub fn identity(&self, name: &str, files: [Option<&str>; 4]) -> Outcome {
        let descriptors: Vec<_> = files.iter().flatten().map(|file| self.bench.open(file)).collect();
        let [key, certificate, password, staple] = files.map(|file| file.is_some());
        self.pass(name, Files { key, certificate, password, staple }, &descriptors)
    }

    pub fn pass(&self, name: &str, files: Files, descriptors: &[OwnedFd]) -> Outcome {
        self.admin.ask(&admin::Request::Identity { name, files }, descriptors);
        let answer = self.admin.next();
        Outcome::of(&admin::Answer::decode(&answer).expect("an answer"), name)
    }

    pub fn commit(&self) {
        self.admin.ask(&admin::Request::Commit, &[]);
        let answer = self.admin.next();
        let committed = matches!(admin::Answer::decode(&answer), Ok(admin::Answer::Committed { .. }));
        assert!(committed, "{answer:?}");
    }

    /// One identity NAME (key and certificate) for all fronts named, committed.
    pub fn serving(fronts: &[&str], name: &str, kind: &str) -> Self {
        let keeper = Self::start(fronts);
        keeper.serve(fronts, name, kind);
        keeper
    }

    /// The same of a keeper that has been told something else before.
    pub fn serve(&self, fronts: &[&str], name: &str, kind: &str) {
        self.bench.identity(name, kind);
        for front in fronts {
            self.front(front, BOTH, None);
        }
        self.load(name);
        self.commit();
    }

    /// Identity `a` for the front `web`, committed.
    pub fn push_a(&self) {
        self.front("web", BOTH, None);
        self.load("a");
        self.commit();
    }

    pub fn load(&self, name: &str) -> Loaded {
        self.identity(name, [Some(&format!("{name}.key")), Some(&format!("{name}.crt")), None, None]).loaded()
    }

    /// SHA-256 of the public key, by the openssl command.
    pub fn key_id(&self, name: &str) -> [u8; 32] {
        self.bench.openssl(&format!("pkey -in {name}.key -pubout -outform DER -out {name}.spki"));
        self.bench.openssl(&format!("dgst -sha256 -binary -out {name}.id {name}.spki"));
        self.bench.read(&format!("{name}.id")).try_into().expect("32 bytes")
    }
}

/// What became of an identity.
#[derive(Debug)]
pub enum Outcome {
    Loaded(Loaded),
    Failed { file: admin::Blamed, kind: admin::Fault, keeps_previous: bool, reason: String },
}

#[derive(Debug)]
pub struct Loaded {
    pub generation: u64,
    pub changed: bool,
    pub key_type: String,
    pub chain: Vec<Vec<u8>>,
}

impl Outcome {
    fn of(answer: &admin::Answer<'_>, asked: &str) -> Self {
        match answer {
            admin::Answer::Loaded(loaded) if loaded.name == asked => Self::Loaded(Loaded {
                generation: loaded.generation,
                changed: loaded.changed,
                key_type: loaded.key_type.to_owned(),
                chain: loaded.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            }),
            admin::Answer::Failed(failed) if failed.name == asked => {
                let admin::Failed { file, kind, keeps_previous, .. } = *failed;
                Self::Failed { file, kind, keeps_previous, reason: failed.reason.to_owned() }
            }
            other => panic!("not the answer for {asked}: {other:?}"),
        }
    }

    pub fn loaded(self) -> Loaded {
        match self {
            Self::Loaded(loaded) => loaded,
            Self::Failed { reason, .. } => panic!("not loaded: {reason}"),
        }
    }

    pub fn failed(self) -> (admin::Blamed, admin::Fault, String) {
        match self {
            Self::Loaded(loaded) => panic!("loaded: {loaded:?}"),
            Self::Failed { file, kind, reason, .. } => (file, kind, reason),
        }
    }
}

/// One side of a SOCK_SEQPACKET connection.
pub struct Socket(pub OwnedFd);

pub trait Message {
    fn bytes(&self) -> Vec<u8>;
}

impl Message for admin::Request<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out).expect("within bounds");
        out
    }
}

impl Message for front::Request<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out).expect("within bounds");
        out
    }
}

impl Socket {
    pub fn new(socket: OwnedFd) -> Self {
        for side in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&socket, side, Some(PATIENCE)).expect("timeout");
        }
        Self(socket)
    }

    pub fn ask(&self, message: &impl Message, descriptors: &[OwnedFd]) {
        self.send(&message.bytes(), descriptors);
    }

    pub fn send(&self, bytes: &[u8], descriptors: &[OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        send(&self.0, bytes, &descriptors, SendFlags::empty()).expect("sent");
    }

    /// The next datagram; empty at the end.
    pub fn next(&self) -> Vec<u8> {
        let mut buffer = vec![0; admin::ANSWER_MAX.max(front::ANSWER_MAX)];
        match recv(&self.0, &mut buffer, 0, RecvFlags::empty()) {
            Ok(received) => buffer.truncate(received.len),
            // The other side closed with something unread.
            Err(luassl_keeper_ipc::transport::RecvError::System(rustix::io::Errno::CONNRESET)) => {
                buffer.clear()
            }
            Err(error) => panic!("nothing came: {error}"),
        }
        buffer
    }

    pub fn has_ended(&self) -> bool {
        self.next().is_empty()
    }

    pub fn sign(
        &self,
        name: &str,
        key_id: [u8; 32],
        scheme: u16,
        message: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        self.ask(&front::Request::Sign(Sign { call: 7, key_id, name, scheme, message }), &[]);
        match Answer::decode(&self.next()).expect("an answer") {
            Answer::Signature { call: 7, bytes } => Ok(bytes.to_vec()),
            Answer::Refused { call: 7, reason } => Err(reason),
            other => panic!("not an answer to a signature: {other:?}"),
        }
    }

    pub fn subscribe(&self) {
        self.ask(&front::Request::Subscribe, &[]);
    }
}

/// What a TLS 1.3 server signs.
pub fn server_message() -> Vec<u8> {
    [&[0x20; 64], b"TLS 1.3, server CertificateVerify\0".as_slice(), &[0x42; 32]].concat()
}

/// What a TLS 1.3 client signs.
pub fn client_message() -> Vec<u8> {
    [&[0x20; 64], b"TLS 1.3, client CertificateVerify\0".as_slice(), &[0x42; 48]].concat()
}

/// What a TLS 1.2 server signs, with X25519.
pub fn exchange_message() -> Vec<u8> {
    [&[0xee; 64], [3, 0, 29, 32].as_slice(), &[0x42; 32]].concat()
}

pub fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socket pair")
}

pub fn listener(path: &Path) -> OwnedFd {
    let socket = seqpacket();
    bind(&socket, &SocketAddrUnix::new(path).expect("short path")).expect("bound");
    listen(&socket, 512).expect("listens");
    socket
}

pub fn dial(path: &Path) -> OwnedFd {
    let socket = seqpacket();
    connect(&socket, &SocketAddrUnix::new(path).expect("short path")).expect("connected");
    socket
}

fn seqpacket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socket")
}
