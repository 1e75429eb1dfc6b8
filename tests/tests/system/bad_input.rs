//! Bad input is answered with a message that names the thing and the remedy, a result and a code; never with a crash,
//! a hang or a lost byte.

use crate::api::{SERVER, connected, port, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{EVERY_LUA, LUA54, LUAJIT};
use luassl_tests::peer::{self, Server};
use luassl_tests::pki::{self, Leaf, Pair};
use luassl_tests::process::Process;
use luassl_tests::{built, repository, scratch};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user that is nobody's, and certainly not the one that runs the tests.
const STRANGER: u32 = 65534;

/// `nil, message, code` with the code and each of the words.
fn refused(answer: &str, code: i32, words: &[&str]) {
    assert!(answer.starts_with("nil, ") && answer.ends_with(&format!(", {code}")), "{answer}");
    for word in words {
        assert!(answer.contains(word), "no {word:?} in {answer}");
    }
}

#[test]
fn no_daemon_at_the_socket() {
    let daemon = Daemon::start();
    for lua in EVERY_LUA {
        let mut command = lua.command(&daemon);
        command.env("LUASSL_SOCKET", "/nowhere/luassl.sock").arg(repository().join("tests/lua/agent.lua"));
        let mut agent = Agent::of(Process::start(&mut command));
        agent.run("ssl = require 'luassl'");
        refused(&agent.run("return ssl.wrap('keys/server.pem')"), -4, &["/nowhere/luassl.sock", "luassld"]);
    }
}

/// An agent that runs as a stranger, with a copy of the module that it may read.
fn stranger(socket: &Path, module: &Path) -> Agent {
    stranger_with(module, |command| {
        command.env("LUASSL_SOCKET", socket);
    })
}

fn stranger_with(module: &Path, change: impl FnOnce(&mut Command)) -> Agent {
    let copy = Command::new("cp").arg("-R").arg(built("lua/5.4")).arg(module).status();
    assert!(copy.is_ok_and(|status| status.success()));
    luassl_tests::copy_file(repository().join("tests/lua/agent.lua"), module.join("agent.lua"));
    std::fs::set_permissions(module, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut command = Command::new("lua5.4");
    command
        .current_dir("/")
        .uid(STRANGER)
        .gid(STRANGER)
        .env("LUA_PATH", format!("{}/5.4/?.lua;;", module.display()))
        .env("LUA_CPATH", format!("{}/5.4/?.so;;", module.display()))
        .arg(module.join("agent.lua"));
    change(&mut command);
    let mut agent = Agent::of(Process::start(&mut command));
    agent.run("ssl = require 'luassl'");
    agent
}

/// They start a program as another user.
mod needs_root {
    use super::*;

    #[test]
    fn no_permission_on_the_socket() {
        let daemon = Daemon::with_config(
            "[control]\nsocket = 'SOCKET'\nmode = '0600'\n[identity.site]\nkey = 'PKI/keys/server.pem'\n\
         [[grant]]\nuser = UID\nidentities = ['site']\n",
        );
        let module = scratch();
        let mut agent = stranger(&daemon.socket(), module.path());
        refused(
            &agent.run("return ssl.wrap('site')"),
            -6,
            &[&daemon.socket().display().to_string(), "permission"],
        );
    }

    #[test]
    fn the_module_finds_the_daemon_of_its_own_user() {
        let runtime = scratch();
        let identities = runtime.path().join("identities");
        std::fs::create_dir(&identities).expect("a directory");
        let key = identities.join("site.pem");
        std::fs::write(&key, fresh().pem()).expect("a key");
        for path in [runtime.path(), &identities, &key] {
            std::os::unix::fs::chown(path, Some(STRANGER), Some(STRANGER)).expect("an owner");
        }
        let programs = scratch();
        std::fs::set_permissions(programs.path(), std::fs::Permissions::from_mode(0o755))
            .expect("permissions");
        for name in ["luassld", "luassl-keeper"] {
            luassl_tests::copy_file(built("bin").join(name), programs.path().join(name));
        }
        let mut command = Command::new(programs.path().join("luassld"));
        command.uid(STRANGER).gid(STRANGER).current_dir("/").env("XDG_RUNTIME_DIR", runtime.path());
        let mut daemon = Process::start(command.arg("run").arg("--identities").arg(&identities));
        assert_eq!(daemon.line(), "ready", "{}", daemon.transcript());
        assert!(runtime.path().join("luassl/luassl.sock").exists());

        let module = scratch();
        let mut agent = stranger_with(module.path(), |command| {
            command.env_remove("LUASSL_SOCKET").env("XDG_RUNTIME_DIR", runtime.path());
        });
        assert_ne!(serve(&mut agent, "ssl.wrap('site')"), 0);
        daemon.signal(rustix::process::Signal::TERM);
        assert!(daemon.wait().success());
    }

    #[test]
    fn a_user_without_a_grant_is_refused_as_for_an_unknown_identity() {
        let daemon = Daemon::with_config(
            "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/keys/server.pem'\n\
         [identity.other]\nkey = 'PKI/keys/client.pem'\n\
         [[grant]]\nuser = UID\nidentities = ['site']\n[[grant]]\nuser = 65534\nidentities = ['other']\n",
        );
        let module = scratch();
        let mut agent = stranger(&daemon.socket(), module.path());
        let forbidden = agent.run("return ssl.wrap('site')");
        let unknown = agent.run("return ssl.wrap('sate')");
        refused(&forbidden, -6, &["site"]);
        assert_eq!(forbidden.replace("site", "sate"), unknown);
        assert_eq!(agent.run("return ssl.wrap('other') ~= nil"), "true");
    }
}

#[test]
fn an_unknown_identity() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    refused(&agent.run("return ssl.wrap('no-such-identity')"), -6, &["no-such-identity"]);
    // A program that goes on regardless gets the code from read and write, and no byte leaves.
    agent.run("s = ssl.create()");
    assert!(agent.run("return s:write('x')").starts_with("-7"));
    assert!(agent.run("return s:read()").starts_with("nil, -7"));
}

/// A daemon over a directory with one identity, `site`, in these files.
fn with_site(files: &[(&str, &[u8])]) -> (Daemon, tempfile::TempDir) {
    let directory = scratch();
    for (name, contents) in files {
        std::fs::write(directory.path().join(name), contents).expect("a file");
    }
    (Daemon::with_identities(directory.path()), directory)
}

fn fresh() -> Pair {
    pki::issue(&Leaf::default(), Some(&pki::issuer("root")))
}

#[test]
fn an_identity_whose_key_and_certificate_do_not_match() {
    let (daemon, _directory) =
        with_site(&[("site.key", &fresh().key_pem()), ("site.crt", &fresh().certificate_pem())]);
    let mut agent = Agent::start(&daemon, LUA54);
    refused(&agent.run("return ssl.wrap('site')"), -4, &["site", "match"]);
    daemon.expect_log("site");
}

#[test]
fn an_identity_whose_passphrase_nobody_gave() {
    let pair = fresh();
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let locked = pair.key.private_key_to_pem_pkcs8_passphrase(cipher, b"secret").expect("a key");
    let (daemon, _directory) = with_site(&[("site.key", &locked), ("site.crt", &pair.certificate_pem())]);
    let mut agent = Agent::start(&daemon, LUA54);
    refused(&agent.run("return ssl.wrap('site')"), -4, &["site", "pass"]);
}

/// What a Lua client that trusts the root makes of a server with this certificate; `wrap` is its context.
fn visit(wrap: &str, pair: &Pair) -> String {
    let directory = scratch();
    let path = directory.path().join("server.pem");
    std::fs::write(&path, pair.pem()).expect("a file");
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let server = Server::with_files(&path, |_| {});
    agent.run(&format!("c = assert({wrap})"));
    agent.send(&format!("return c:connect('localhost', {})", server.port()));
    let _outcome = server.accept();
    agent.answer()
}

const CLIENT: &str = "ssl.wrap(nil, 'keys/rootcert.pem')";

#[test]
fn an_expired_certificate_of_the_peer() {
    let pair =
        pki::issue(&Leaf { from_days: -30, to_days: -1, ..Leaf::default() }, Some(&pki::issuer("root")));
    refused(&visit(CLIENT, &pair), -5, &["expired", "CN"]);
}

#[test]
fn a_certificate_of_the_peer_that_is_not_yet_valid() {
    let pair = pki::issue(&Leaf { from_days: 2, ..Leaf::default() }, Some(&pki::issuer("root")));
    refused(&visit(CLIENT, &pair), -5, &["not yet valid"]);
}

#[test]
fn a_certificate_of_the_peer_for_another_host() {
    let leaf = Leaf { common_name: "other.example", names: &["other.example"], ..Leaf::default() };
    let pair = pki::issue(&leaf, Some(&pki::issuer("root")));
    refused(&visit(CLIENT, &pair), -5, &["localhost"]);
}

#[test]
fn a_certificate_of_the_peer_by_an_unknown_authority() {
    let pair = pki::issue(&Leaf::default(), None);
    refused(&visit(CLIENT, &pair), -5, &["CN"]);
}

#[test]
fn a_revoked_certificate_of_the_peer() {
    let pair = fresh();
    let list = String::from_utf8(pki::revocation_list("root", &pair.certificate)).expect("PEM");
    let wrap = format!("ssl.wrap{{cafile = 'keys/rootcert.pem', crl = [[{}]]}}", list.replace('\n', "\\n"));
    // The agent's chunks are single lines: the list's line ends go as escapes, in a quoted string.
    let wrap = wrap.replace("[[", "'").replace("]]", "'");
    refused(&visit(&wrap, &pair), -5, &["revoked"]);
    let other = fresh();
    assert_eq!(visit(&wrap, &other), "true");
}

#[test]
fn a_cipher_string_without_a_cipher() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let answer = agent.run("return ssl.wrap('keys/server.pem', nil, nil, nil, 'NO-SUCH-CIPHER')");
    refused(&answer, -7, &["NO-SUCH-CIPHER"]);
}

#[test]
fn a_cipher_string_that_lowers_the_level_of_security() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let answer = agent.run("return ssl.wrap('keys/server.pem', nil, nil, nil, 'ALL:@SECLEVEL=0')");
    refused(&answer, -6, &["@SECLEVEL"]);
}

#[test]
fn a_server_name_that_no_client_could_ask_for() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    for name in ["*", "a.*.b", "*b.example"] {
        let answer = agent.run(&format!(
            "return ssl.wrap{{key = 'keys/server.pem', sni = {{['{name}'] = 'keys/server.pem'}}}}"
        ));
        refused(&answer, -7, &[name, "*.example.org"]);
    }
    let thrown = agent.error("ssl.wrap{sni = {'keys/server.pem', 'keys/client.pem'}}");
    assert!(thrown.contains("server name") && thrown.contains("test:1:"), "{thrown}");
}

#[test]
fn a_sum_of_options_with_an_unknown_bit() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let wrap =
        |options: &str| format!("return ssl.wrap('keys/server.pem', nil, nil, nil, nil, nil, {options})");
    refused(&agent.run(&wrap("2")), -7, &["bit 1"]);
    refused(&agent.run(&wrap("ssl.OP_NO_TLSv1 + ssl.OP_NO_TLSv1 + 2")), -7, &["bit"]);
    refused(&agent.run(&wrap("-1")), -7, &[]);
    refused(&agent.run(&wrap("{'OP_NO_SUCH'}")), -7, &["OP_NO_SUCH"]);
}

#[test]
fn a_ca_file_that_is_none() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    refused(&agent.run("return ssl.wrap(nil, 'keys/no-such.pem')"), -7, &["keys/no-such.pem"]);
    let answer = agent.run("return ssl.wrap{cafile = 'keys/dhparams.pem'}");
    refused(&answer, -7, &["'cafile'", "keys/dhparams.pem", "BEGIN CERTIFICATE"]);
    let broken = scratch();
    let file = broken.path().join("broken.pem");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("a file");
    let answer = agent.run(&format!("return ssl.wrap{{cafile = '{}'}}", file.display()));
    refused(&answer, -7, &["PEM block", &file.display().to_string()]);
}

#[test]
fn a_file_above_the_daemons_limit() {
    let daemon = Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\n[limits]\nframe_bytes = 16384\n\
         [[grant]]\nuser = UID\nidentities = ['*']\nroles = ['client']\n",
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let large = scratch();
    let file = large.path().join("large.pem");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".repeat(1000))
        .expect("a file");
    let answer = agent.run(&format!("return ssl.wrap{{cafile = '{}'}}", file.display()));
    refused(&answer, -7, &[&file.display().to_string(), "16384", "frame_bytes"]);
}

#[test]
fn a_port_in_use() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.run(&format!("other = assert({SERVER})"));
    let answer = agent.run(&format!("return other:bind({port})"));
    refused(&answer, -6, &[&port.to_string(), "in use"]);
}

#[test]
fn an_address_where_nobody_listens() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.run("s:free()");
    luassl_tests::until("the port to be free", || peer::tcp(port).is_err());
    agent.run(&format!("c = assert({CLIENT})"));
    let answer = agent.run(&format!("return c:connect('localhost', {port})"));
    refused(&answer, -3, &["refused", &port.to_string()]);
}

#[test]
fn a_descriptor_that_is_no_socket() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUAJIT);
    agent.run("posix = require 'posix'");
    agent.run(&format!("c = assert({CLIENT})"));
    let answer = agent.run("return c:attach(posix.open('/dev/null'), {role = 'client', host = false})");
    refused(&answer, -7, &["socket"]);
    let answer = agent.run("return c:attach(9999, {role = 'client', host = false})");
    refused(&answer, -7, &["9999"]);
}

/// A server that reports failed handshakes, and its port.
fn reporting(daemon: &Daemon) -> (Agent, u16) {
    let mut agent = Agent::start(daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.send("return s:accept{report = true}");
    (agent, port)
}

/// `nil, message, code, "handshake"`
fn reported(answer: &str, code: i32, words: &[&str]) {
    let Some(answer) = answer.strip_suffix(", \"handshake\"") else { panic!("{answer}") };
    refused(answer, code, words);
}

#[test]
fn a_peer_that_speaks_http_to_a_tls_port() {
    let daemon = Daemon::start();
    let (mut agent, port) = reporting(&daemon);
    let answer = agent.answer_to(|| {
        let mut peer = peer::tcp(port).expect("tcp");
        peer.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a write");
        peer
    });
    reported(&answer, -1, &["HTTP"]);
}

#[test]
fn a_peer_that_closes_in_mid_handshake() {
    let daemon = Daemon::start();
    let (mut agent, port) = reporting(&daemon);
    let answer = agent.answer_to(|| {
        let mut peer = peer::tcp(port).expect("tcp");
        peer.write_all(b"\x16\x03\x01\x02\x00\x01\x00").expect("half a record");
        peer.shutdown(Shutdown::Write).expect("a close");
        peer
    });
    reported(&answer, -3, &[]);
}

#[test]
fn a_peer_that_never_answers() {
    let daemon = Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[limits]\nhandshake = 1\n\
         [[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server', 'client']\n",
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('server')");
    agent.send("return s:accept{report = true}");
    reported(&agent.answer_to(|| peer::tcp(port).expect("tcp")), -2, &[]);

    let silent = Server::start("server", |_| {});
    agent.run(&format!("c = assert({CLIENT})"));
    agent.send(&format!("return c:connect('localhost', {})", silent.port()));
    let _accepted = silent.accept_tcp().expect("tcp");
    refused(&agent.answer(), -2, &[]);
}

#[test]
fn a_timeout_of_the_program_ends_a_connect_to_a_peer_that_never_answers() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let silent = Server::start("server", |_| {});
    agent.run(&format!("c = assert({CLIENT}) c:settimeout(0.3)"));
    agent.send(&format!("return c:connect('localhost', {})", silent.port()));
    let _accepted = silent.accept_tcp().expect("tcp");
    refused(&agent.answer(), -2, &[]);
}

#[test]
fn a_write_to_a_closed_connection() {
    let daemon = Daemon::start();
    for lua in EVERY_LUA {
        let (mut agent, tls) = connected(&daemon, lua);
        drop(tls);
        agent.run("c:shutdown()");
        let answer = agent.run("return c:write('x')");
        assert!(answer.starts_with('-'), "{lua:?}: {answer}");
        assert!(agent.run("return c:read()").starts_with("nil, "));
    }
}

#[test]
fn every_method_on_a_freed_object() {
    let daemon = Daemon::start();
    for lua in EVERY_LUA {
        let (mut agent, _tls) = connected(&daemon, lua);
        agent.run("s:free() s:free() c:free()");
        for object in ["s", "c"] {
            for call in [
                "bind(0)",
                "accept()",
                "connect('localhost', 1)",
                "wrap('keys/server.pem')",
                "getport()",
                "renegotiate()",
                "getfd()",
                "getpeername()",
                "getsockname()",
                "pending()",
                "info()",
                "peercertificate()",
                "setoption('tcp-nodelay', true)",
                "export('EXPORTER-x', 16)",
                "attach(0, {role = 'server'})",
                "new()",
            ] {
                let answer = agent.run(&format!("return {object}:{call}"));
                refused(&answer, -7, &[]);
            }
            assert!(agent.run(&format!("return {object}:read()")).starts_with("nil, -7"));
            assert!(agent.run(&format!("return {object}:write('x')")).starts_with("-7"));
            for call in ["shutdown()", "clear()", "free()", "close()", "settimeout(1)"] {
                agent.run(&format!("return {object}:{call}"));
            }
        }
    }
}

#[test]
fn misuse_is_thrown_at_the_callers_line() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    agent.run(&format!("s = assert({SERVER})"));
    for (call, words) in [
        ("s.bind(0)", "bad self"),
        ("s:bind('http')", "bad argument #1 to 'bind'"),
        ("s:bind(70000)", "bad argument #1 to 'bind'"),
        ("s:write({})", "bad argument #1 to 'write'"),
        ("s:read(-1)", "bad argument #1 to 'read'"),
        ("s:connect(7, 7)", "bad argument #1 to 'connect'"),
        ("ssl.wrap{kee = 'x'}", "kee"),
    ] {
        let message = agent.error(call);
        assert!(message.contains(words) && message.contains("test:1:"), "{call}: {message}");
    }
}

#[test]
fn a_record_that_was_changed_on_its_way() {
    let daemon = Daemon::start();
    let (mut agent, tls) = connected(&daemon, LUA54);
    let mut plain = tls.get_ref();
    plain.write_all(b"\x17\x03\x03\x00\x20this is no ciphertext of anybody").expect("a write");
    let end = agent.run("return c:read()");
    assert!(end.starts_with("nil, -1"), "{end}");
}

#[test]
fn two_daemons_for_one_socket() {
    let daemon = Daemon::start();
    let mut command = Command::new(built("bin/luassld"));
    command.arg("run").arg("--identities").arg(pki::keys()).arg("--socket").arg(daemon.socket());
    let mut second = Process::start(&mut command);
    assert!(!second.wait().success());
    assert!(second.errors().contains(&daemon.socket().display().to_string()), "{}", second.transcript());
    let mut agent = Agent::start(&daemon, LUA54);
    assert_ne!(serve(&mut agent, SERVER), 0);
    assert_ne!(port(&mut agent), 0);
}
