//! A bystander, while others do their worst: its requests on the control socket and its handshakes are timed in calm, then
//! while a user without a grant attacks, then one with a grant. None of the bystander's may fail, and the front's memory and
//! descriptors stay within bounds. The times are told, and not judged: the machine may be busy with something else.
//!
//! The attacks are those of the review's findings 4 to 8 and 11, each at its bounds; what peers do is in
//! [`hostile_peers`].

use super::costly;
use super::hostile_peers::{self, Servers};
use super::parsing::{check, read, store, trusting};
use super::peers::raise_descriptor_limit;
use luassl_keeper_ipc::transport::{self, PollFlags, RecvFlags, SendFlags};
use luassl_protocol::{
    Blob, CertificateFacts, Delivery, Done, FreeContext, Hello, Issued, MAX_RESULT, Request, VERSION,
    from_body, holder,
};
use luassl_tests::PATIENCE;
use luassl_tests::daemon::Daemon;
use luassl_tests::peer::{Server, connect_with, connector, tcp};
use luassl_tests::process::as_user;
use luassl_tests::wire::{Control, unverified};
use openssl::ssl::SslConnector;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const UNGRANTED: u32 = 54_330;
const GRANTED: u32 = 54_331;

/// How far the front's memory may grow under attack, in KiB.
const MAX_GROWTH: u64 = 64 << 10;

/// Connections of the attacks that hold some.
const HELD: usize = 32;

/// What attackers do, each on a thread of its own: again and again, until it is over. An attack may panic at any time,
/// since the front may refuse whatever it likes; then it begins anew.
type Attack = (&'static str, fn(&Attacker));

/// Findings 4 and 6: what is parsed.
const PARSING: [Attack; 3] =
    [("4, constraints", costly_checks), ("4, certificates", certificates), ("6, contexts", contexts)];

/// Everything.
const ALL: [Attack; 11] = [
    PARSING[0],
    PARSING[1],
    PARSING[2],
    ("5, descriptors", descriptors),
    ("7, frames", partial_frames),
    ("8, renegotiations", hostile_peers::renegotiations),
    ("8, key updates", hostile_peers::key_updates),
    ("8, large primes", hostile_peers::large_primes),
    ("8, certificates", hostile_peers::costly_certificates),
    ("11, own listener", hostile_peers::idle_at_its_own_listener),
    ("11, bystander's", hostile_peers::idle_at_the_bystanders_listener),
];

/// Findings 8 and 11: what peers do.
const PEERS: &[Attack] = ALL.split_at(5).1;

/// What all attacks share.
pub(crate) struct Attacker {
    pub(crate) socket: PathBuf,
    /// The bystander's listener.
    pub(crate) port: u16,
    pub(crate) servers: Servers,
    over: AtomicBool,
    check: Request,
    bundles: Vec<Vec<u8>>,
}

impl Attacker {
    fn new(socket: PathBuf, port: u16) -> Arc<Self> {
        // As many bytes and certificates as one context may bring.
        let bundles = (0..3).map(|number| costly::bundle(&format!("bundle {number}"), 500, 250)).collect();
        let (servers, over) = (Servers::start(), AtomicBool::new(false));
        Arc::new(Self { socket, port, servers, over, check: check(9, 750), bundles })
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }
}

fn costly_checks(attacker: &Attacker) {
    let mut control = Control::open(&attacker.socket);
    while attacker.goes_on() {
        let _ = control.ask::<Issued>(&attacker.check);
    }
}

fn certificates(attacker: &Attacker) {
    let mut control = Control::open(&attacker.socket);
    let request = read(attacker.bundles[0][..60 << 10].to_vec());
    while attacker.goes_on() {
        let _ = control.ask::<CertificateFacts>(&request);
    }
}

fn descriptors(attacker: &Attacker) {
    const EACH: usize = 250;
    let file = File::open("/dev/null").expect("a file");
    let many = [file.as_fd(); EACH];
    while attacker.goes_on() {
        let held: Vec<_> = (0..HELD).filter_map(|_| UnixStream::connect(&attacker.socket).ok()).collect();
        for stream in &held {
            // The length of a frame that does not come.
            let _ = transport::send(stream, &[0, 0, 1, 0], &many, SendFlags::DONTWAIT);
        }
    }
}

fn contexts(attacker: &Attacker) {
    let mut control = Control::open(&attacker.socket);
    let digests: Vec<_> = attacker.bundles.iter().map(|bundle| store(&mut control, bundle.clone())).collect();
    let mut kept = Vec::new();
    while attacker.goes_on() {
        for digest in &digests {
            kept.extend(control.context(trusting(vec![*digest; 64])).ok());
        }
        if kept.len() > 64 {
            for context in kept.drain(..) {
                let _ = control.ask::<Done>(&Request::FreeContext(FreeContext { context }));
            }
        }
    }
}

fn partial_frames(attacker: &Attacker) {
    let hello = Hello { version: VERSION, features: vec![], client: "attacker".into() };
    let hello = Request::Hello(hello).to_frame(1).expect("a frame");
    let blob = Request::Blob(Blob { data: vec![7; 128 << 10] }).to_frame(2).expect("a frame");
    while attacker.goes_on() {
        let held: Vec<_> = (0..HELD).filter_map(|_| UnixStream::connect(&attacker.socket).ok()).collect();
        for mut stream in &held {
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = stream.write_all(&hello).and_then(|()| stream.write_all(&blob[..blob.len() - 10]));
        }
    }
}

/// Starts every attack as a user.
fn attack(attacker: &Arc<Attacker>, attacks: &[Attack], uid: u32) -> Vec<JoinHandle<()>> {
    let start = |&(name, attack): &Attack| {
        let attacker = Arc::clone(attacker);
        let again = move || {
            // What the front does for them is measured, and not the processor time that they take themselves.
            rustix::process::setpriority_process(None, 19).expect("a priority");
            while attacker.goes_on() {
                let _ = catch_unwind(AssertUnwindSafe(|| attack(&attacker)));
            }
        };
        let named = thread::Builder::new().name(name.to_owned());
        named.spawn(move || as_user(uid, again)).expect("a thread")
    };
    attacks.iter().map(start).collect()
}

/// How long something took, again and again.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let outcome = work();
        self.0.push(begun.elapsed());
        outcome
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
    }
}

/// What the bystander saw in one phase.
#[derive(Default)]
struct Seen {
    requests: Times,
    handshakes: Times,
    /// Handshakes of its own clients with its listener.
    accepted: Times,
    /// Exchanges with a process that has nothing to do with luassl: what the machine itself costs in this phase.
    machine_requests: Times,
    /// Handshakes in which luassl has no part.
    machine_handshakes: Times,
    /// The front's largest resident memory, in KiB.
    memory: u64,
    /// Its largest number of open descriptors.
    descriptors: usize,
}

impl Seen {
    fn tell(&self, phase: &str, calm: &Self) {
        for (what, times, before) in [
            ("requests", &self.requests, &calm.requests),
            ("handshakes as a client", &self.handshakes, &calm.handshakes),
            ("handshakes as a server", &self.accepted, &calm.accepted),
            ("exchanges without luassl", &self.machine_requests, &calm.machine_requests),
            ("handshakes without luassl", &self.machine_handshakes, &calm.machine_handshakes),
        ] {
            let (half, most) = (times.percentile(50), times.percentile(99));
            let ratio = most.as_secs_f64() / before.percentile(99).as_secs_f64();
            println!("{phase}: {} {what}, p50 {half:?}, p99 {most:?} ({ratio:.1} of calm)", times.0.len());
        }
        let grown = self.memory.saturating_sub(calm.memory);
        println!("{phase}: the front has grown by {grown} KiB, and has {} descriptors", self.descriptors);
    }
}

struct Bystander {
    daemon: Daemon,
    server: Server,
    listener: Listening,
    echo: Echo,
    client: SslConnector,
}

/// A process that sends back what it receives.
struct Echo(UnixStream, Child);

impl Echo {
    fn start() -> Self {
        let (near, far) = UnixStream::pair().expect("a pair");
        let output = OwnedFd::from(far.try_clone().expect("a descriptor"));
        let mut cat = Command::new("cat");
        let cat = cat.stdin(OwnedFd::from(far)).stdout(output).spawn().expect("cat");
        Self(near, cat)
    }

    /// As many bytes as a request and its answer have.
    fn exchange(&mut self) {
        let mut bytes = [7; 200];
        self.0.write_all(&bytes).and_then(|()| self.0.read_exact(&mut bytes)).expect("an exchange");
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
        let _ = self.1.wait();
    }
}

/// The bystander's listener, and a client of it.
struct Listening {
    port: u16,
    delivery: OwnedFd,
    client: SslConnector,
}

impl Listening {
    fn new(socket: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        // As many may wait as at a listener of the configuration.
        rustix::net::listen(&listener, 4096).expect("listening");
        let delivery = hostile_peers::bound(&mut Control::open(socket), &listener);
        let port = listener.local_addr().expect("an address").port();
        Self { port, delivery, client: connector(|_| {}) }
    }

    /// A client connects, and the program takes the connection.
    fn accept(&self) {
        transport::send(&self.delivery, &[holder::ASK], &[], SendFlags::empty()).expect("asked");
        let _client = connect_with(&self.client, self.port);
        let waited = transport::wait([self.delivery.as_fd()], PollFlags::IN, Some(PATIENCE));
        assert_eq!(waited.expect("a wait"), [true], "no connection comes");
        let mut message = [0; MAX_RESULT];
        let received = transport::recv(&self.delivery, &mut message, 1, RecvFlags::empty()).expect("one");
        let delivery: Delivery = from_body(&message[..received.len]).expect("a delivery");
        assert!(delivery.result.error.is_none() && received.descriptors.len() == 1, "{delivery:?}");
        transport::send(&self.delivery, &[holder::TAKEN], &[], SendFlags::empty()).expect("taken");
    }
}

impl Bystander {
    fn new() -> Self {
        let daemon = Daemon::with_config(&format!(
            "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n\
             [[grant]]\nuser = UID\nidentities = ['*']\n[[grant]]\nuser = {GRANTED}\nidentities = ['*']\n"
        ));
        let listener = Listening::new(&daemon.socket());
        let server = Server::start("server-p256", |_| {});
        Self { daemon, server, listener, echo: Echo::start(), client: connector(|_| {}) }
    }

    /// Asks and connects for so long; whatever fails ends the test.
    fn watch(&mut self, length: Duration) -> Seen {
        let mut seen = Seen::default();
        let until = Instant::now() + length;
        while Instant::now() < until {
            // One for each round: what it makes goes with it.
            let mut control = seen.requests.of(|| Control::open(&self.daemon.socket()));
            let context = seen.requests.of(|| control.context(unverified()).expect("a context"));
            let free = Request::FreeContext(FreeContext { context });
            seen.requests.of(|| control.ask::<Done>(&free)).expect("it is freed");
            let tcp = tcp(self.server.port()).expect("a connection");
            let shaken = seen.handshakes.of(|| control.stream(&tcp, || self.server.accept()));
            let _peer = shaken.1.expect("a handshake");
            seen.accepted.of(|| self.listener.accept());
            seen.machine_requests.of(|| self.echo.exchange());
            seen.machine_handshakes.of(|| handshake(&self.client, &self.server));
            seen.memory = seen.memory.max(memory(self.daemon.front()));
            seen.descriptors = seen.descriptors.max(descriptors_of(self.daemon.front()));
        }
        seen
    }

    /// While a user attacks.
    fn watch_under_attack(&mut self, uid: u32, attacks: &[Attack], length: Duration) -> Seen {
        let attacker = Attacker::new(self.daemon.socket(), self.listener.port);
        let threads = attack(&attacker, attacks, uid);
        let seen = catch_unwind(AssertUnwindSafe(|| self.watch(length)));
        attacker.over.store(true, Ordering::SeqCst);
        threads.into_iter().for_each(|thread| drop(thread.join()));
        seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A handshake of OpenSSL with OpenSSL.
fn handshake(client: &SslConnector, server: &Server) {
    thread::scope(|scope| {
        let accepted = scope.spawn(|| server.accept());
        let _client = connect_with(client, server.port());
        let _peer = accepted.join().expect("a thread").expect("a handshake");
    });
}

fn status(path: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("{field}"));
    let number = line.split_whitespace().find_map(|word| word.trim_matches(':').parse().ok());
    number.unwrap_or(u64::MAX)
}

/// In KiB.
pub(crate) fn memory(pid: u32) -> u64 {
    status(&format!("/proc/{pid}/status"), "VmRSS")
}

pub(crate) fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).expect("a process").count()
}

/// The three phases, each for so long.
fn bystander(attacks: &[Attack], length: Duration) {
    raise_descriptor_limit();
    let mut bystander = Bystander::new();
    let most = status(&format!("/proc/{}/limits", bystander.daemon.front()), "Max open files");
    let calm = bystander.watch(length);
    calm.tell("in calm", &calm);
    for (phase, uid) in [("without a grant", UNGRANTED), ("with a grant", GRANTED)] {
        let seen = bystander.watch_under_attack(uid, attacks, length);
        seen.tell(phase, &calm);
        let grown = seen.memory.saturating_sub(calm.memory);
        assert!(grown < MAX_GROWTH, "{phase}: the front has grown by {grown} KiB");
        assert!((seen.descriptors as u64) < most / 10, "{phase}: {} descriptors", seen.descriptors);
    }
}

/// Phases of `make test`.
const SHORT: Duration = Duration::from_secs(3);
/// Phases of `make test-long`.
const LONG: Duration = Duration::from_secs(60);

mod needs_root {
    use super::*;

    #[test]
    fn a_bystander_is_served_while_others_have_certificates_parsed() {
        bystander(&PARSING, SHORT);
    }

    #[test]
    fn a_bystander_is_served_while_peers_do_their_worst() {
        bystander(PEERS, SHORT);
    }

    #[test]
    fn a_bystander_is_served_while_others_do_their_worst() {
        bystander(&ALL, SHORT);
    }
}

/// `make test-long` alone runs these.
mod long {
    mod needs_root {
        use super::super::*;

        #[test]
        fn a_bystander_is_served_while_others_have_certificates_parsed_for_a_minute() {
            bystander(&PARSING, LONG);
        }

        #[test]
        fn a_bystander_is_served_while_peers_do_their_worst_for_a_minute() {
            bystander(PEERS, LONG);
        }

        #[test]
        fn a_bystander_is_served_while_others_do_their_worst_for_a_minute() {
            bystander(&ALL, LONG);
        }
    }
}
