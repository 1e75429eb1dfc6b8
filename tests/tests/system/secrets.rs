//! The private key is in no memory that anybody but the keeper can read, whoever looks and however.

use crate::api::serve;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::kernel;
use luassl_tests::lua::LUA54;
use luassl_tests::memory::{self, Scan};
use luassl_tests::needles::{self, Needle};
use luassl_tests::pki::KEY_TYPES;
use luassl_tests::{peer, pki};
use std::io;
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

mod needs_root {
    use super::*;

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
