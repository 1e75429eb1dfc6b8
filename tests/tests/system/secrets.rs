//! The private key is in no memory that anybody but the keeper can read, whoever looks and however.

use crate::api::serve;
use luassl_keeper_ipc::front::{ANSWER_MAX, Answer, Request, Sign};
use luassl_keeper_ipc::transport::{self, RecvFlags, SendFlags};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::kernel;
use luassl_tests::lua::LUA54;
use luassl_tests::memory::{self, Scan};
use luassl_tests::needles::{self, Needle};
use luassl_tests::pki::KEY_TYPES;
use luassl_tests::{nonces, peer, pki};
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// Handshakes with each key before anybody looks.
const HANDSHAKES: usize = 200;

/// A way to look.
type Look = fn(u32, &[Needle]) -> io::Result<Option<Scan>>;

const LOOKS: [(&str, Look); 3] = [
    ("/proc/PID/mem", |pid, needles| memory::scan(pid, needles).map(Some)),
    ("process_vm_readv", |pid, needles| memory::scan_by_call(pid, needles).map(Some)),
    ("a core", memory::scan_core),
];

/// Everything that gives the key of `keys/NAME.pem` away.
fn needles_of(name: &str) -> Vec<Needle> {
    let pem = std::fs::read(pki::file(&format!("keys/{name}.pem"))).expect("the key's file");
    needles::of_pem(&pem).expect("a key")
}

/// A Lua server that has done `count` handshakes with the key of `keys/NAME.pem`.
fn handshakes(agent: &mut Agent, name: &str, count: usize) {
    let port = serve(agent, &format!("ssl.wrap('keys/{name}.pem')"));
    agent.send(&format!("for n = 1, {count} do local c = assert(s:accept()) c:clear() end"));
    for _ in 0..count {
        drop(peer::connect(port));
    }
    agent.answer();
}

fn look(what: &str, pid: u32, how: &str, look: Look, needles: &[Needle]) -> Option<Scan> {
    let scan = look(pid, needles).unwrap_or_else(|error| panic!("{how} of the {what}: {error}"));
    if scan.is_none() {
        eprintln!("not tried: {how} of the {what}: gcore (of gdb) is not installed");
    }
    scan
}

/// A key, by the name of its file, with the scheme that it signs by (RFC 8446, 4.2.3) and that scheme's digest.
struct Kind {
    name: &'static str,
    scheme: u16,
    digest: MessageDigest,
}

/// Keys whose signatures draw a random number: a nonce, or the salt of PSS.
fn drawing() -> [Kind; 4] {
    let kind = |name, scheme, digest| Kind { name, scheme, digest };
    [
        kind("server-p256", 0x0403, MessageDigest::sha256()),
        kind("server-p384", 0x0503, MessageDigest::sha384()),
        kind("server-p521", 0x0603, MessageDigest::sha512()),
        kind("server-rsa", 0x0804, MessageDigest::sha256()),
    ]
}

/// Asks the keeper of `daemon` for `count` signatures, as a front does; what each was made with.
fn drawn(daemon: &Daemon, kind: &Kind, count: u32) -> Vec<Needle> {
    let keeper = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    let path = daemon.directory().join("luassl.sock.keeper");
    connect(&keeper, &SocketAddrUnix::new(path).expect("a short path")).expect("the keeper");
    let pem = std::fs::read(pki::file(&format!("keys/{}.pem", kind.name))).expect("the key's file");
    #[expect(clippy::disallowed_methods, reason = "who knows the key finds the nonce in a signature")]
    let key = PKey::private_key_from_pem(&pem).expect("a key");
    let key_id = openssl::sha::sha256(&key.public_key_to_der().expect("its public half"));
    let mut needles = Vec::new();
    for number in 0..count {
        // What a server of TLS 1.3 signs.
        let hash = openssl::sha::sha256(&number.to_be_bytes());
        let message = [&[0x20; 64], b"TLS 1.3, server CertificateVerify\0".as_slice(), &hash].concat();
        let signature = signature(&keeper, kind, key_id, &message);
        needles.extend(match key.id() {
            Id::EC => nonces::of_ecdsa(&key, kind.digest, &message, &signature).expect("a nonce"),
            _ => nonces::of_pss(&key, kind.digest, &signature).expect("a salt"),
        });
    }
    needles
}

fn signature(keeper: &OwnedFd, kind: &Kind, key_id: [u8; 32], message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request = Sign { call: 1, key_id, name: kind.name, scheme: kind.scheme, message };
    Request::Sign(request).encode(&mut bytes).expect("a request");
    transport::send(keeper, &bytes, &[], SendFlags::empty()).expect("it is sent");
    let mut answer = vec![0; ANSWER_MAX];
    let length = transport::recv(keeper, &mut answer, 0, RecvFlags::empty()).expect("an answer").len;
    match Answer::decode(&answer[..length]) {
        Ok(Answer::Signature { bytes, .. }) => bytes.to_vec(),
        other => panic!("{}: no signature: {other:?}", kind.name),
    }
}

mod needs_root {
    use super::*;

    /// Signatures with each key before anybody looks for what they were made with.
    const SIGNATURES: u32 = 20;

    #[test]
    fn finding_18_no_nonce_and_no_salt_is_found_in_the_keeper() {
        if !kernel::has_secret_memory() {
            eprintln!("not tried: this kernel has no memfd_secret (Linux 5.14, secretmem.enable=1)");
            return;
        }
        let daemon = Daemon::start();
        let needles: Vec<_> = drawing().iter().flat_map(|kind| drawn(&daemon, kind, SIGNATURES)).collect();
        for (how, way) in LOOKS {
            let Some(scan) = look("keeper", daemon.keeper(), how, way, &needles) else { continue };
            assert_eq!(scan.total(), 0, "{how}: {:?}", scan.hits);
        }
    }

    /// Without it a search that finds nothing would prove nothing: an ordinary stack keeps nonces.
    #[test]
    fn finding_18_the_same_search_finds_nonces_in_a_keeper_without_its_arena() {
        let daemon = Daemon::with_keeper("test/keeper-without-arena", &pki::keys());
        // libcrypto's code for P-256 leaves nonces on its stack; that for other keys leaves neither nonce nor salt.
        let [p256, ..] = drawing();
        let needles = drawn(&daemon, &p256, SIGNATURES);
        let scan = memory::scan(daemon.keeper(), &needles).expect("root reads the keeper's memory");
        assert!(scan.total() > 0, "{}: nothing was found", p256.name);
    }

    #[test]
    fn no_key_is_found_in_any_process_after_many_handshakes_with_each() {
        let daemon = Daemon::start();
        let mut agent = Agent::start(&daemon, LUA54);
        let mut needles = Vec::new();
        for key in KEY_TYPES {
            handshakes(&mut agent, &format!("server-{key}"), HANDSHAKES);
            needles.extend(needles_of(&format!("server-{key}")));
        }
        for (what, pid) in
            [("Lua process", agent.pid()), ("front", daemon.front()), ("keeper", daemon.keeper())]
        {
            for (how, way) in LOOKS {
                let Some(scan) = look(what, pid, how, way, &needles) else { continue };
                eprintln!("{how} of the {what}: {} hits in {} KiB", scan.total(), scan.read >> 10);
                if what == "keeper" && !kernel::has_secret_memory() {
                    eprintln!(
                        "not promised: this kernel has no memfd_secret (Linux 5.14, secretmem.enable=1)"
                    );
                    daemon.expect_log("the kernel has no memfd_secret");
                    continue;
                }
                assert_eq!(scan.total(), 0, "{how} of the {what}: {:?}", scan.hits);
            }
        }
    }

    /// Without it a search that finds nothing would prove nothing.
    #[test]
    fn the_same_search_finds_each_key_in_a_keeper_without_its_arena() {
        let daemon = Daemon::with_keeper("test/keeper-without-arena", &pki::keys());
        let mut agent = Agent::start(&daemon, LUA54);
        for key in KEY_TYPES {
            let name = format!("server-{key}");
            handshakes(&mut agent, &name, 1);
            for (how, way) in LOOKS {
                let Some(scan) = look("keeper", daemon.keeper(), how, way, &needles_of(&name)) else {
                    continue;
                };
                assert!(scan.total() > 0, "{name}: {how} finds nothing");
            }
        }
    }

    /// The secrets of a connection, from the peer that has them too (the format of SSLKEYLOGFILE).
    fn secrets_of(lines: &[String]) -> Vec<Needle> {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("hex"))
                .collect()
        };
        let needle = |line: &String| {
            let mut words = line.split(' ');
            let name = words.next().expect("a label").to_owned();
            Needle { name, bytes: hex(words.nth(1).expect("a secret")) }
        };
        lines.iter().map(needle).collect()
    }

    fn hits(daemon: &Daemon, needles: &[Needle]) -> Scan {
        memory::scan(daemon.front(), needles).expect("root reads the front's memory")
    }

    #[test]
    fn the_secrets_of_a_connection_are_wiped_when_it_has_ended() {
        for version in ["TLSv1.2", "TLSv1.3"] {
            let daemon = Daemon::start();
            let mut agent = Agent::start(&daemon, LUA54);
            let port = serve(&mut agent, "ssl.wrap{key = 'server', resumption = false}");
            agent.send("c = assert(s:accept()) c:write('hello')");
            let log = Arc::new(Mutex::new(Vec::new()));
            let connector = peer::connector(|builder| {
                peer::only(builder, version);
                let log = Arc::clone(&log);
                builder.set_keylog_callback(move |_, line| log.lock().expect("a log").push(line.to_owned()));
            });
            let mut tls = peer::try_connect(&connector, port).expect("a handshake");
            assert_eq!(crate::api::text(&mut tls), "hello");
            agent.answer();
            let secrets = secrets_of(&log.lock().expect("a log"));
            // Without this a search that finds nothing would prove nothing.
            assert!(hits(&daemon, &secrets).total() > 0, "{version}: nothing was found while it was open");
            drop(tls);
            agent.run("c:clear() c = nil");
            luassl_tests::until(&format!("the secrets of {version} to be gone"), || {
                let scan = hits(&daemon, &secrets);
                if scan.total() > 0 {
                    eprintln!("{version}: {:?}", scan.hits);
                }
                scan.total() == 0
            });
        }
    }
}
