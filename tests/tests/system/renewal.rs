//! Certificates are renewed under load, whole or not at all.

use crate::api::{accepted, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::echo;
use luassl_tests::lua::{LUA54, LUAJIT};
use luassl_tests::peer::{self, Tls};
use luassl_tests::pki::{self, Leaf, Pair};
use luassl_tests::{scratch, until};
use rustix::process::Signal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn fresh() -> Pair {
    pki::issue(&Leaf::default(), Some(&pki::issuer("root")))
}

/// As certbot: a new file, then a rename over the old one.
fn replace(path: &Path, contents: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, contents).expect("a file");
    std::fs::rename(&new, path).expect("a rename");
}

fn serial(tls: &Tls) -> String {
    let certificate = tls.ssl().peer_certificate().expect("a certificate");
    certificate.serial_number().to_bn().and_then(|number| number.to_hex_str()).expect("a number").to_string()
}

fn serial_of(pair: &Pair) -> String {
    pair.certificate
        .serial_number()
        .to_bn()
        .and_then(|number| number.to_hex_str())
        .expect("a number")
        .to_string()
}

#[test]
fn a_certificate_renewed_on_sighup_under_load_fails_no_handshake() {
    let identities = scratch();
    let file = identities.path().join("site.pem");
    replace(&file, &fresh().pem());
    let daemon = Daemon::with_identities(identities.path());
    let mut server = LUAJIT.run(&daemon, "echo_poll.lua", &["site"]);
    let port = server.line().parse().expect("a port");

    let (stop, handshakes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let connector = peer::connector(|_| {});
            while !stop.load(Ordering::Relaxed) {
                echo::echo(&mut peer::connect_with(&connector, port), "load\n").expect("an echo");
                handshakes.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..5 {
            let renewed = fresh();
            replace(&file, &renewed.pem());
            daemon.signal(Signal::HUP);
            until("the new certificate", || {
                load.is_finished() || serial(&peer::connect(port)) == serial_of(&renewed)
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(handshakes.load(Ordering::Relaxed) > 5);
}

#[test]
fn certbots_layout_is_renewed_by_its_symbolic_links() {
    let identities = scratch();
    let live = identities.path().join("site.example");
    std::fs::create_dir(&live).expect("a directory");
    let archive = scratch();
    let install = |generation: usize, pair: &Pair| {
        for (name, contents) in [("privkey", pair.key_pem()), ("fullchain", pair.certificate_pem())] {
            let target = archive.path().join(format!("{name}{generation}.pem"));
            std::fs::write(&target, contents).expect("a file");
            let link = live.join(format!("{name}.pem"));
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(target, link).expect("a link");
        }
    };
    let first = fresh();
    install(1, &first);
    let daemon = Daemon::with_identities(identities.path());
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('site.example')");
    agent.run("s:settimeout(0)");
    assert_eq!(serial(&peer::connect(port)), serial_of(&first));
    let second = fresh();
    install(2, &second);
    daemon.signal(Signal::HUP);
    until("the new certificate", || {
        agent.run("while s:accept() do end");
        serial(&peer::connect(port)) == serial_of(&second)
    });
}

#[test]
fn a_renewal_that_does_not_fit_leaves_the_old_pair_in_service_and_says_so() {
    let identities = scratch();
    let key = identities.path().join("site.key");
    let certificate = identities.path().join("site.crt");
    let old = fresh();
    replace(&key, &old.key_pem());
    replace(&certificate, &old.certificate_pem());
    replace(&identities.path().join("other.pem"), &fresh().pem());
    let daemon = Daemon::with_identities(identities.path());
    let mut server = LUAJIT.run(&daemon, "echo_poll.lua", &["site"]);
    let port = server.line().parse().expect("a port");

    // Another key under the old certificate, and at the same time a good renewal of the other identity.
    replace(&key, &fresh().key_pem());
    let other = fresh();
    replace(&identities.path().join("other.pem"), &other.pem());
    daemon.signal(Signal::HUP);
    daemon.expect_log("site");
    let mut second = LUAJIT.run(&daemon, "echo_poll.lua", &["other"]);
    let second_port = second.line().parse().expect("a port");
    until("the other's renewal", || serial(&peer::connect(second_port)) == serial_of(&other));
    assert_eq!(serial(&peer::connect(port)), serial_of(&old));
    let log = daemon.log();
    let said = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(said(&["site", "match", "the previous one stays in service"]), "{log}");
    assert!(said(&["serves 2 of 2 identities, 1 of them as before: `site`"]), "{log}");
}

#[test]
fn a_front_and_a_keeper_that_were_killed_serve_the_renewed_certificate() {
    let identities = scratch();
    let file = identities.path().join("site.pem");
    replace(&file, &fresh().pem());
    let daemon = Daemon::with_identities(identities.path());
    let renewed = fresh();
    replace(&file, &renewed.pem());
    daemon.signal(Signal::HUP);
    daemon.kill_keeper();
    daemon.kill_front();
    let mut server = LUAJIT.run(&daemon, "echo_poll.lua", &["site"]);
    let port = server.line().parse().expect("a port");
    until("the new certificate", || serial(&peer::connect(port)) == serial_of(&renewed));
}

#[test]
fn a_server_that_brought_its_chain_goes_on_after_a_renewal_and_the_loss_of_the_front() {
    let identities = scratch();
    let file = identities.path().join("site.pem");
    replace(&file, &fresh().pem());
    let daemon = Daemon::with_identities(identities.path());
    let mut agent = Agent::start(&daemon, LUA54);
    let path = file.display().to_string();
    let port = serve(&mut agent, &format!("ssl.wrap('{path}', '{path}')"));
    let renewed = fresh();
    replace(&file, &renewed.pem());
    daemon.signal(Signal::HUP);
    daemon.expect_log("is renewed");
    daemon.kill_front();
    assert!(agent.run("return s:accept()").ends_with(", -4"), "the loss is told once");
    let tls = accepted(&mut agent, port);
    assert_eq!(serial(&tls), serial_of(&renewed));
    daemon.expect_log("the chain of the former key");
    // A program that brings the old chain now is mistaken.
    let answer = agent.run(&format!("return ssl.wrap('{path}', {})", old_chain()));
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -7"), "{answer}");
}

/// Another key's certificate, as a Lua text.
fn old_chain() -> String {
    let pem = String::from_utf8(fresh().certificate_pem()).expect("PEM");
    format!("'{}'", pem.replace('\n', "\\n"))
}
