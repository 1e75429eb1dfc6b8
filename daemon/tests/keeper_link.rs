//! The front's link to a real keeper: identities come in, signatures are had, and a keeper that goes away and comes
//! back costs no handshake.

#[path = "../../keeper/tests/kit/mod.rs"]
mod kit;

use kit::process::Process;
use kit::{BOTH, Bench, Keeper, listener, server_message};
use luassl_front::keeper_client::KeeperLink;
use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
use luassl_tls::identity::{IdentitySource, KeyId, SignError, Signer};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Verifier;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::Signal;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const ECDSA: u16 = 0x0403;

/// Longer than anything takes; a bound on failing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A keeper's program that was built from this source.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // target/PROFILE/deps/THIS
        let own = std::env::current_exe().expect("own program");
        let profile = own.ancestors().nth(2).expect("a profile's directory");
        let target = profile.parent().expect("a target directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--offline", "--package", "luassl-keeper", "--target-dir"])
            .arg(target);
        assert!(cargo.status().expect("cargo runs").success());
        target.join("debug/luassl-keeper")
    })
}

fn link(keeper: &Keeper) -> Arc<KeeperLink> {
    link_to(&keeper.bench)
}

fn link_to(bench: &Bench) -> Arc<KeeperLink> {
    KeeperLink::start(bench.path("web.socket"), PATIENCE).expect("started")
}

fn synced(link: &KeeperLink) -> Arc<dyn IdentitySource> {
    until(|| link.is_synced());
    link.identities()
}

/// Waits for something that happens in another process or thread.
fn until(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "it did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a change beyond the epoch that was seen.
fn changed(identities: &Arc<dyn IdentitySource>, seen: u64) {
    until(|| identities.epoch() != seen);
}

/// Sets a flag when it is dropped, in a panic as well, so that nobody is waited for who waits for the flag.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn sign(link: &KeeperLink, key_id: KeyId) -> Result<Vec<u8>, SignError> {
    link.sign("a", key_id, ECDSA, &server_message())
}

fn key_id(link: &KeeperLink) -> KeyId {
    synced(link).current("a").expect("an identity").key_id
}

/// A keeper in a process, behind a listening socket that outlives it.
fn process() -> (OwnedFd, Process, Keeper) {
    let bench = Bench::new();
    bench.identity("a", P256);
    let listener = listener(&bench.path("web.socket"));
    let (process, keeper) = Process::serving(program(), &listener, bench);
    (listener, process, keeper)
}

#[test]
fn identities_come_in_and_sign() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let link = link(&keeper);
    let identities = synced(&link);
    let identity = identities.current("a").expect("an identity");
    assert_eq!(identity.key_id.0, keeper.key_id("a"));
    assert_eq!((identity.chain.len(), &identity.staple), (1, &None));
    assert!(identities.current("b").is_none());
    let signature = sign(&link, identity.key_id).expect("signed");
    let public = PKey::public_key_from_der(&identity.public_key).expect("a public key");
    let mut verifier = Verifier::new(MessageDigest::sha256(), &public).expect("verifier");
    assert!(verifier.verify_oneshot(&signature, &server_message()).expect("verified"));
}

#[test]
fn a_refusal_says_why() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let link = link(&keeper);
    let key_id = key_id(&link);
    let refused = |name, key_id, scheme, message: &[u8]| match link.sign(name, key_id, scheme, message) {
        Err(SignError::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(refused("nobody", key_id, ECDSA, &server_message()), "no such identity");
    assert_eq!(
        refused("a", KeyId([0; 32]), ECDSA, &server_message()),
        "the identity has no such key any more"
    );
    assert_eq!(refused("a", key_id, ECDSA, b"a token"), "not a handshake message");
    assert_eq!(refused("a", key_id, 0x0804, &server_message()), "the signature scheme does not fit");
    assert_eq!(refused("a", key_id, ECDSA, &vec![0; 70_000]), "the message is too long to be signed");
    assert!(sign(&link, key_id).is_ok());
}

#[test]
fn changes_are_told_and_counted() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let link = link(&keeper);
    let identities = synced(&link);
    let (first, seen) = (identities.current("a").expect("an identity"), identities.epoch());
    keeper.push_a();
    keeper.bench.identity("a", P256);
    keeper.push_a();
    changed(&identities, seen);
    let second = identities.current("a").expect("an identity");
    assert_eq!(identities.epoch(), seen + 1);
    assert_eq!(second.generation, 2);
    assert_ne!(second.key_id, first.key_id);
    assert!(sign(&link, first.key_id).is_ok() && sign(&link, second.key_id).is_ok());
    keeper.front("web", BOTH, None);
    keeper.commit();
    changed(&identities, seen + 1);
    assert!(identities.current("a").is_none());
}

#[test]
fn finding_17_a_front_does_not_take_in_what_it_cannot_parse_and_keeps_the_former_one() {
    let keeper = Keeper::serving(&["web"], "a", P256);
    let link = link(&keeper);
    let identities = synced(&link);
    let (former, seen) = (identities.current("a").expect("an identity"), identities.epoch());
    keeper.bench.identity("b", P256);
    keeper.bench.identity("c", P256);
    keeper.bench.garbage("a", "a.crt");
    keeper.bench.garbage("b", "b.crt");
    keeper.front("web", BOTH, None);
    let generations = ["a", "b", "c"].map(|name| keeper.load(name).generation);
    assert_eq!(generations, [2, 1, 1], "the keeper hands them out");
    keeper.commit();
    // They are told in the order of their names: once `c` is there, the others have been seen.
    changed(&identities, seen);
    assert!(identities.current("c").is_some());
    assert!(identities.current("b").is_none());
    assert_eq!(identities.current("a"), Some(former));
    // Positive control: certificates that can be parsed.
    for name in ["a", "b"] {
        keeper.bench.self_sign(name, "-days 365");
    }
    let seen = identities.epoch();
    keeper.front("web", BOTH, None);
    for name in ["a", "b", "c"] {
        keeper.load(name);
    }
    keeper.commit();
    until(|| identities.epoch() == seen + 2);
    assert_eq!(identities.current("a").expect("an identity").generation, 3);
}

#[test]
fn a_front_puts_a_chain_in_order() {
    let keeper = Keeper::start(&["web"]);
    let bench = &keeper.bench;
    bench.identity("ca", P256);
    bench.identity("stranger", P256);
    bench.openssl(&format!("genpkey {P256} -out a.key"));
    bench.openssl("req -new -key a.key -subj /CN=a -out a.csr");
    bench.openssl("x509 -req -in a.csr -CA ca.crt -CAkey ca.key -days 100 -out leaf.crt");
    bench.join("a.crt", &["stranger.crt", "ca.crt", "leaf.crt"]);
    keeper.push_a();
    let link = link(&keeper);
    let chain = &synced(&link).current("a").expect("an identity").chain;
    let der = |file: &str| {
        let certificate = openssl::x509::X509::from_pem(&bench.read(file)).expect("a certificate");
        certificate.to_der().expect("DER")
    };
    assert_eq!(*chain, [der("leaf.crt"), der("ca.crt")]);
}

#[test]
fn a_call_before_the_first_push_waits_for_it() {
    let keeper = Keeper::start(&["web"]);
    keeper.bench.identity("a", P256);
    let link = link(&keeper);
    assert!(!link.is_synced());
    let key_id = KeyId(keeper.key_id("a"));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| sign(&link, key_id))).collect();
        keeper.push_a();
        for call in calls {
            assert!(call.join().expect("no panic").is_ok());
        }
    });
}

#[test]
fn no_call_fails_while_the_keeper_is_started_again_at_once() {
    let (listener, process, keeper) = process();
    let link = link(&keeper);
    let key_id = key_id(&link);
    let seen = link.identities().epoch();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (mut process, mut keeper) = (process, keeper);
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0;
                    while !stop.load(Ordering::Relaxed) {
                        sign(&link, key_id).expect("signed");
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        let at_end = AtEnd(&stop);
        for _ in 0..5 {
            process.signal(Signal::KILL);
            (process, keeper) = Process::serving(program(), &listener, keeper.bench);
            sign(&link, key_id).expect("signed");
        }
        drop(at_end);
        for caller in callers {
            assert!(caller.join().expect("no panic") > 0);
        }
    });
    // The same identity from another keeper is no change: contexts are not made anew.
    assert_eq!(link.identities().epoch(), seen);
}

#[test]
fn a_keeper_that_stays_away_fails_calls_until_it_is_back() {
    let (listener, process, keeper) = process();
    let link = link(&keeper);
    let key_id = key_id(&link);
    process.kill();
    link.set_deadline(Duration::from_millis(50));
    assert_eq!(sign(&link, key_id), Err(SignError::Unavailable));
    assert_eq!(sign(&link, key_id), Err(SignError::Unavailable));
    // What it told stays known.
    assert!(link.identities().current("a").is_some());
    let (_process, _keeper) = Process::serving(program(), &listener, keeper.bench);
    until(|| sign(&link, key_id).is_ok());
}

#[test]
fn a_keeper_that_hangs_fails_calls_until_it_goes_on() {
    let (_listener, process, keeper) = process();
    let link = link(&keeper);
    let key_id = key_id(&link);
    assert!(sign(&link, key_id).is_ok());
    process.signal(Signal::STOP);
    until(|| process.is_stopped());
    link.set_deadline(Duration::from_millis(50));
    assert_eq!(sign(&link, key_id), Err(SignError::Unavailable));
    process.signal(Signal::CONT);
    until(|| sign(&link, key_id).is_ok());
}

#[test]
fn a_keeper_that_comes_later_is_found() {
    let bench = Bench::new();
    bench.identity("a", P256);
    let link = link_to(&bench);
    link.set_deadline(Duration::from_millis(1));
    assert_eq!(sign(&link, KeyId([0; 32])), Err(SignError::Unavailable));
    let listener = listener(&bench.path("web.socket"));
    let (_process, _keeper) = Process::serving(program(), &listener, bench);
    link.set_deadline(PATIENCE);
    let key_id = key_id(&link);
    assert!(sign(&link, key_id).is_ok());
}

fn accept(listener: &OwnedFd) -> OwnedFd {
    accept_with(listener, SocketFlags::CLOEXEC).expect("a connection")
}

#[test]
fn nonsense_from_the_keeper_ends_the_connection_and_no_more() {
    let bench = Bench::new();
    let listener = listener(&bench.path("web.socket"));
    let _link = link_to(&bench);
    let nonsense: [&[u8]; 4] = [b"\xff", b"\x84\x00", &[0x81; 300], &vec![0x83; 100_000]];
    let mut buffer = [0; 16];
    for bytes in nonsense {
        let connection = accept(&listener);
        let request = recv(&connection, &mut buffer, 0, RecvFlags::empty()).expect("a request");
        assert_eq!(&buffer[..request.len], [1]);
        send(&connection, bytes, &[], SendFlags::empty()).expect("sent");
        let end = recv(&connection, &mut buffer, 0, RecvFlags::empty());
        assert!(end.map_or(true, |received| received.len == 0));
    }
}

#[test]
fn the_link_ends_with_its_last_owner() {
    let bench = Bench::new();
    let listener = listener(&bench.path("web.socket"));
    let link = link_to(&bench);
    let connection = accept(&listener);
    let mut buffer = [0; 16];
    recv(&connection, &mut buffer, 0, RecvFlags::empty()).expect("a request");
    drop(link);
    assert_eq!(recv(&connection, &mut buffer, 0, RecvFlags::empty()).expect("the end").len, 0);
}
