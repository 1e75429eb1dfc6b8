//! What it costs that the key is in another process: CPU time of front and keeper for one signature, less that of the
//! same signature in this process, and how often they give up the processor for it.
//!
//! The front's part is the front's own code ([`KeeperLink`]) on a thread of this process; the keeper is the real one.
//!
//! Beside it the same signature by a thread of this process that is asked over a socket: what two threads that wait for
//! each other cost on this machine, whoever they are. Two processors that wake each other in a virtual machine take tens
//! of microseconds for it, one that does both in turn a few.

use crate::measure::Sample;
use luassl_front::keeper_client::KeeperLink;
use luassl_tests::daemon::Daemon;
use luassl_tests::pki;
use luassl_tls::identity::{KeyId, Signer};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer as OpenSsl;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Signatures of one round.
const SIGNATURES: u32 = 2_000;
/// How long the keeper may take to tell its identities.
const PATIENCE: Duration = Duration::from_secs(10);
/// Name of the identity, its title, and the scheme that it signs by (RFC 8446, 4.2.3).
const KEYS: [(&str, &str, u16); 2] = [("server-p256", "P-256", 0x0403), ("server-rsa", "RSA", 0x0401)];
/// As many as anybody can ask for.
const CONFIG: &str = "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[limits]\n\
                      signatures_per_identity = 1000000\nsignatures_per_front = 1000000\n";

/// What one signature took: microseconds, and switches.
struct Spent {
    front: f64,
    keeper: f64,
    bare: f64,
    /// By a thread of this process.
    thread: f64,
    voluntary: f64,
    forced: f64,
}

/// Prints the cost of the keeper, by kind of key.
pub(crate) fn compare(rounds: usize) {
    let daemon = Daemon::with_config(CONFIG);
    let path = daemon.directory().join("luassl.sock.keeper");
    let link = KeeperLink::start(path, PATIENCE).expect("a link to the keeper");
    luassl_tests::until("the keeper to send its identities", || link.is_synced());
    println!(
        "{:<26} {:>28} {:>28} {:>24}",
        "one signature by the keeper", "front and keeper", "bare", "more"
    );
    for (name, title, scheme) in KEYS {
        let work = Work::of(&link, name, scheme);
        let [mut both, mut bare, mut more, mut thread, mut voluntary, mut forced] =
            [const { Sample::new() }; 6];
        // The first round warms up.
        for round in 0..=rounds {
            let spent = work.round(daemon.keeper());
            if round > 0 {
                both.add(spent.front + spent.keeper);
                bare.add(spent.bare);
                more.add(spent.front + spent.keeper - spent.bare);
                thread.add(spent.thread - spent.bare);
                voluntary.add(spent.voluntary);
                forced.add(spent.forced);
            }
        }
        println!(
            "{title:<26} {:>28} {:>28} {:>24}",
            both.show(0, "us"),
            bare.show(0, "us"),
            more.show(0, "us")
        );
        println!("{:<26} {:>28} {:>28} {:>24}", "  by a thread, no keeper", "", "", thread.show(0, "us"));
        println!(
            "{:<26} {:>28} {:>28}",
            "  context switches",
            voluntary.show(2, ""),
            forced.show(2, "forced")
        );
    }
}

/// Signatures with one key, by either way.
struct Work {
    link: Arc<KeeperLink>,
    name: &'static str,
    key_id: KeyId,
    scheme: u16,
    key: PKey<Private>,
    /// What a server of TLS 1.2 signs, with X25519 (RFC 8422, 5.4).
    message: Vec<u8>,
}

impl Work {
    fn of(link: &Arc<KeeperLink>, name: &'static str, scheme: u16) -> Self {
        let public = link.identities().current(name).expect("the identity");
        let pem = fs::read(pki::file(&format!("keys/{name}.pem"))).expect("the key's file");
        #[expect(clippy::disallowed_methods, reason = "the same key, signing without a keeper")]
        let key = PKey::private_key_from_pem(&pem).expect("a key");
        let message = [&[0xee; 64], [3, 0, 29, 32].as_slice(), &[0x42; 32]].concat();
        Self { link: Arc::clone(link), name, key_id: public.key_id, scheme, key, message }
    }

    /// CPU time of both threads, in microseconds.
    fn by_a_thread(&self) -> f64 {
        let (asks, answers) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a socket pair");
        let key = self.key.clone();
        let before = cpu_time(ClockId::ProcessCPUTime);
        let signer = thread::spawn(move || answer(&answers, &key));
        let mut signature = [0; 1024];
        for _ in 0..SIGNATURES {
            send(&asks, &self.message, SendFlags::NOSIGNAL).expect("a request is sent");
            recv(&asks, &mut signature, RecvFlags::empty()).expect("an answer comes");
        }
        drop(asks);
        signer.join().expect("the thread ends");
        cpu_time(ClockId::ProcessCPUTime) - before
    }

    fn round(&self, keeper: u32) -> Spent {
        let own = Path::new("/proc/thread-self");
        let process = format!("/proc/{keeper}/task");
        let tasks = || fs::read_dir(&process).expect("the keeper").flatten().map(|task| task.path());
        let keepers = |of: fn(&Path) -> f64| tasks().map(|task| of(&task)).sum::<f64>();
        let switches = |of: fn(&Path) -> f64| of(own) + keepers(of);
        let before = (thread_time(), keepers(run_time), switches(voluntary), switches(forced));
        for _ in 0..SIGNATURES {
            self.link.sign(self.name, self.key_id, self.scheme, &self.message).expect("a signature");
        }
        let after = (thread_time(), keepers(run_time), switches(voluntary), switches(forced));
        for _ in 0..SIGNATURES {
            signature(&self.key, &self.message);
        }
        let bare = thread_time() - after.0;
        let each = f64::from(SIGNATURES);
        Spent {
            front: (after.0 - before.0) / each,
            keeper: (after.1 - before.1) / each,
            bare: bare / each,
            thread: self.by_a_thread() / each,
            voluntary: (after.2 - before.2) / each,
            forced: (after.3 - before.3) / each,
        }
    }
}

/// A signature in this process.
fn signature(key: &PKey<Private>, message: &[u8]) -> Vec<u8> {
    let mut signer = OpenSsl::new(MessageDigest::sha256(), key).expect("a signer");
    signer.sign_oneshot_to_vec(message).expect("a signature")
}

/// Signs what comes, until the other end is closed.
fn answer(socket: &OwnedFd, key: &PKey<Private>) {
    let mut message = [0; 1024];
    while let Ok((1.., length)) = recv(socket, &mut message, RecvFlags::empty()) {
        send(socket, &signature(key, &message[..length]), SendFlags::NOSIGNAL).expect("an answer is sent");
    }
}

/// CPU time of this thread, in microseconds.
fn thread_time() -> f64 {
    cpu_time(ClockId::ThreadCPUTime)
}

fn cpu_time(of: ClockId) -> f64 {
    let time = clock_gettime(of);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// CPU time of a thread by its directory in /proc, in microseconds.
fn run_time(task: &Path) -> f64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

/// How often a thread gave the processor up to wait for something.
fn voluntary(task: &Path) -> f64 {
    field(task, "voluntary_ctxt_switches:")
}

/// How often it lost it to another.
fn forced(task: &Path) -> f64 {
    field(task, "nonvoluntary_ctxt_switches:")
}

fn field(task: &Path, name: &str) -> f64 {
    let text = fs::read_to_string(task.join("status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}
