//! Attack 15: an environment that would have OpenSSL do something else.

use crate::api::{accepted, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{Tls, tcp};
use luassl_tests::process::Process;
use luassl_tests::{peer, pki, scratch};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An openssl.cnf under which nothing negotiates TLS 1.3.
const ONLY_TLS12: &str = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n\
     [default]\nMaxProtocol = TLSv1.2\n";
/// One that loads a module of the attacker's.
const LOADS_A_MODULE: &str = "openssl_conf = init\n[init]\nproviders = providers\n[providers]\nevil = evil\n\
     [evil]\nactivate = 1\nmodule = evil.so\n";

fn file(directory: &Path, contents: &str) -> PathBuf {
    let path = directory.join("openssl.cnf");
    std::fs::write(&path, contents).expect("a file");
    path
}

fn handshake(daemon: &Daemon) -> Tls {
    let mut agent = Agent::start(daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('keys/server.pem')");
    accepted(&mut agent, port)
}

#[test]
fn attack_15_openssl_conf_changes_nothing() {
    let directory = scratch();
    let configuration = file(directory.path(), ONLY_TLS12);
    let daemon = Daemon::with_environment(&[("OPENSSL_CONF", &configuration)]);
    assert_eq!(handshake(&daemon).ssl().version_str(), "TLSv1.3");
}

/// Positive control: who reads it negotiates TLS 1.2.
#[test]
fn attack_15_openssl_conf_changes_what_openssl_s_server_does() {
    let directory = scratch();
    let configuration = file(directory.path(), ONLY_TLS12);
    let identity = pki::file("keys/server.pem");
    let mut command = Command::new("openssl");
    command.args(["s_server", "-accept", "127.0.0.1:0", "-cert"]).arg(&identity).arg("-key").arg(&identity);
    let mut server =
        Process::start(command.arg("-cert_chain").arg(&identity).env("OPENSSL_CONF", configuration));
    let port = loop {
        let line = server.line();
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        }
    };
    assert_eq!(peer::connect(port).ssl().version_str(), "TLSv1.2");
}

/// Debian's own module for old algorithms, under another name, and the configuration that loads it.
fn with_module(directory: &Path) -> PathBuf {
    let said = Command::new("openssl").args(["version", "-m"]).output().expect("openssl starts").stdout;
    let modules = String::from_utf8_lossy(&said).split('"').nth(1).expect("a directory").to_owned();
    luassl_tests::copy_file(Path::new(&modules).join("legacy.so"), directory.join("evil.so"));
    // Whoever runs as another user could read it.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory, open).expect("a mode");
    file(directory, LOADS_A_MODULE)
}

#[test]
fn attack_15_no_module_is_loaded() {
    let directory = scratch();
    let configuration = with_module(directory.path());
    let daemon =
        Daemon::with_environment(&[("OPENSSL_CONF", &configuration), ("OPENSSL_MODULES", directory.path())]);
    assert_eq!(handshake(&daemon).ssl().version_str(), "TLSv1.3");
    for pid in [daemon.front(), daemon.keeper()] {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
        // Nobody but root may look.
        assert!(!maps.unwrap_or_default().contains("evil.so"));
    }
}

/// Positive control: who reads the configuration loads the module.
#[test]
fn attack_15_openssl_loads_the_module() {
    let directory = scratch();
    let mut command = Command::new("openssl");
    command.args(["list", "-providers"]).env("OPENSSL_CONF", with_module(directory.path()));
    let output = command.env("OPENSSL_MODULES", directory.path()).output().expect("openssl starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("evil"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn attack_15_nobody_writes_a_key_log() {
    let directory = scratch();
    let log = directory.path().join("keylog");
    // Whoever runs as another user could write it.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open).expect("a mode");
    let daemon = Daemon::with_environment(&[("SSLKEYLOGFILE", &log)]);
    let _tls = handshake(&daemon);
    assert!(!log.exists());
}

/// Positive control: curl writes one.
#[test]
fn attack_15_curl_writes_a_key_log() {
    let directory = scratch();
    let log = directory.path().join("keylog");
    let (_server, port) = peer::s_server("server", &["-www"]);
    drop(tcp(port).expect("tcp"));
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--max-time", "20", &format!("https://localhost:{port}/")]);
    assert!(command.env("SSLKEYLOGFILE", &log).output().expect("curl starts").status.success());
    assert!(std::fs::read_to_string(log).expect("a key log").contains("SERVER_HANDSHAKE_TRAFFIC_SECRET"));
}
