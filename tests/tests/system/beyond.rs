//! What LuaSSL lacked: many connections, timeouts, descriptors, facts about a connection, STARTTLS.

use crate::api::{SERVER, accepted, connected, serve, text};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUA54, LUAJIT, Lua};
use luassl_tests::peer::{self, Server};
use luassl_tests::process::Process;
use luassl_tests::{pki, until};
use openssl::ssl::SslRef;
use std::io::{Read, Write};
use std::process::Command;

const CLIENT: &str = "ssl.wrap(nil, 'keys/rootcert.pem')";

/// Connects the Lua client `c`, and gives the test's end.
fn dialled(agent: &mut Agent, server: &Server) -> peer::Tls {
    agent.run(&format!("c = assert({CLIENT})"));
    agent.send(&format!("assert(c:connect('localhost', {}))", server.port()));
    let tls = server.accept().expect("a handshake");
    agent.answer();
    tls
}

#[test]
fn curl_fetches_from_a_lua_server() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.send("c = assert(s:accept())");
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(pki::file("keys/rootcert.pem"));
    let mut curl = Process::start(command.arg(format!("https://localhost:{port}/hello")));
    agent.answer();
    assert!(agent.run("return c:read()").contains("GET /hello HTTP/1.1"));
    agent.run("c:write('HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nfrom lua\\n') c:shutdown()");
    assert_eq!(curl.finish(), "from lua\n");
}

#[test]
fn read_takes_at_most_what_it_is_told_to() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    tls.write_all(b"0123456789").expect("a write");
    assert_eq!(agent.run("return c:read(4)"), "\"0123\"");
    assert_eq!(agent.run("return c:read(100)"), "\"456789\"");
}

#[test]
fn a_timeout_ends_accept_and_read_with_its_code_and_loses_nothing() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.run("s:settimeout(0.1)");
    let answer = agent.run("return s:accept()");
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -2"), "{answer}");
    agent.run("s:settimeout(nil)");
    let mut tls = accepted(&mut agent, port);
    agent.run("c:settimeout(0.1)");
    assert!(agent.run("return c:read()").starts_with("nil, -2"));
    agent.run("c:settimeout(0)");
    assert!(agent.run("return c:read()").starts_with("nil, -2"));
    tls.write_all(b"late").expect("a write");
    agent.run("c:settimeout(10)");
    assert_eq!(agent.run("return c:read()"), "\"late\"");
}

#[test]
fn getfd_is_readable_exactly_when_there_is_something_to_read() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUAJIT);
    agent.run("posix = require 'posix'");
    let port = serve(&mut agent, SERVER);
    agent.run("s:settimeout(0)");
    assert_eq!(agent.run("return #posix.poll({s}, 100)"), "0");
    let mut tls = peer::connect(port);
    assert_eq!(agent.run("return #posix.poll({s}, 10000)"), "1");
    agent.run("c = assert(s:accept())");
    assert_eq!(agent.run("return #posix.poll({c}, 100)"), "0");
    tls.write_all(b"x").expect("a write");
    assert_eq!(agent.run("return #posix.poll({c}, 10000)"), "1");
    assert_eq!(agent.run("return c:read()"), "\"x\"");
    assert_eq!(agent.run("return #posix.poll({c}, 100)"), "0");
}

#[test]
fn a_connect_without_waiting_is_finished_later() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUAJIT);
    agent.run("posix = require 'posix'");
    let server = Server::start("server", |_| {});
    agent.run(&format!("c = assert({CLIENT}) c:settimeout(0)"));
    let answer = agent.run(&format!("return c:connect('localhost', {})", server.port()));
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -2"), "{answer}");
    let chunk = "local ok, message, code repeat ok, message, code = c:connect() \
                 if not ok and code == -2 then posix.poll({c}, 50) end until ok or code ~= -2 return ok, message";
    agent.send(chunk);
    let mut tls = server.accept().expect("a handshake");
    assert_eq!(agent.answer(), "true, nil");
    tls.write_all(b"there").expect("a write");
    agent.run("c:settimeout(10)");
    assert_eq!(agent.run("return c:read()"), "\"there\"");
}

#[test]
fn info_tells_what_was_negotiated() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let server = Server::start("server", |builder| {
        builder.set_alpn_select_callback(|_, offered| {
            openssl::ssl::select_next_proto(b"\x02h2\x08http/1.1", offered)
                .ok_or(openssl::ssl::AlpnError::NOACK)
        });
    });
    agent.run("c = assert(ssl.wrap{cafile = 'keys/rootcert.pem', alpn = {'http/1.1'}})");
    agent.send(&format!("assert(c:connect('localhost', {}))", server.port()));
    let tls = server.accept().expect("a handshake");
    agent.answer();
    assert_eq!(tls.ssl().servername(openssl::ssl::NameType::HOST_NAME), Some("localhost"));
    let info = |agent: &mut Agent, field: &str| agent.run(&format!("return c:info('{field}')"));
    assert_eq!(info(&mut agent, "protocol"), "\"TLSv1.3\"");
    assert_eq!(info(&mut agent, "alpn"), "\"http/1.1\"");
    assert_eq!(info(&mut agent, "sni"), "\"localhost\"");
    assert_eq!(info(&mut agent, "bits"), bits(tls.ssl()));
    assert_eq!(info(&mut agent, "reused"), "false");
    assert_eq!(agent.run("return type(c:info().group)"), "\"string\"");
    assert_eq!(agent.run("return type(c:info())"), "\"table\"");
}

fn bits(ssl: &SslRef) -> String {
    ssl.current_cipher().map_or(0, |cipher| cipher.bits().secret).to_string()
}

#[test]
fn addresses_of_both_ends_are_told() {
    let daemon = Daemon::start();
    let (mut agent, tls) = connected(&daemon, LUA54);
    let local = tls.get_ref().local_addr().expect("an address");
    let remote = tls.get_ref().peer_addr().expect("an address");
    assert_eq!(agent.run("return c:getpeername()"), format!("\"{}\", {}", local.ip(), local.port()));
    let own = agent.run("return c:getsockname()");
    assert!(own.contains("127.0.0.1") && own.ends_with(&format!(", {}", remote.port())), "{own}");
}

#[test]
fn peercertificate_describes_the_peer() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let server = Server::start("server-p256", |_| {});
    let tls = dialled(&mut agent, &server);
    let certificate = tls.ssl().certificate().expect("a certificate");
    agent.run("p = assert(c:peercertificate())");
    assert_eq!(agent.run("return p.subject"), "\"CN=localhost\"");
    assert_eq!(agent.run("return p.issuer"), "\"CN=luassl development server CA\"");
    let pem = String::from_utf8(certificate.to_pem().expect("PEM")).expect("text");
    assert_eq!(agent.run("return p.pem").replace("\\010", "\n"), format!("\"{pem}\""));
    let digest = certificate.digest(openssl::hash::MessageDigest::sha256()).expect("a digest");
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(agent.run("return p.sha256"), format!("\"{hex}\""));
    assert_eq!(agent.run("return table.concat(p.names, ' ')"), "\"localhost 127.0.0.1 ::1\"");
    assert_eq!(agent.run("return p.not_before < os.time() and os.time() < p.not_after"), "true");
    assert_eq!(agent.run("return type(p.serial)"), "\"string\"");
}

on_every_lua! { starttls_by_attach }

fn starttls_by_attach(lua: Lua) {
    if !lua.has_socket {
        return starttls_of_a_bare_descriptor(lua);
    }
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, lua);
    let server = Server::start("server", |_| {});
    agent.run("socket = require 'socket'");
    agent.run(&format!("plain = assert(socket.connect('127.0.0.1', {}))", server.port()));
    let mut stream = server.accept_tcp().expect("tcp");
    agent.run("plain:send('STARTTLS\\n')");
    let mut line = [0; 9];
    stream.read_exact(&mut line).expect("a line");
    agent.run(&format!("c = assert({CLIENT})"));
    agent.send("return c:attach(plain, {role = 'client', host = 'localhost'})");
    let mut tls = server.handshake(stream).expect("a handshake");
    assert_eq!(agent.answer(), "true");
    agent.run("c:write('in private')");
    assert_eq!(text(&mut tls), "in private");
}

/// Where there is no LuaSocket: a descriptor that this process made, handed down to the interpreter.
fn starttls_of_a_bare_descriptor(lua: Lua) {
    let daemon = Daemon::start();
    let server = Server::start("server", |_| {});
    let outgoing = peer::tcp(server.port()).expect("tcp");
    let stream = server.accept_tcp().expect("tcp");
    let inherited = rustix::io::fcntl_dupfd_cloexec(&outgoing, 200).expect("a copy");
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("a flag");
    let mut agent = Agent::start(&daemon, lua);
    let number = std::os::fd::AsRawFd::as_raw_fd(&inherited);
    drop((inherited, outgoing));
    agent.run(&format!("c = assert({CLIENT})"));
    agent.send(&format!("return c:attach({number}, {{role = 'client', host = 'localhost'}})"));
    let mut tls = server.handshake(stream).expect("a handshake");
    assert_eq!(agent.answer(), "true");
    agent.run("c:write('in private')");
    assert_eq!(text(&mut tls), "in private");
}

#[test]
fn setoption_changes_the_tcp_socket() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    for option in ["tcp-nodelay", "keepalive"] {
        for value in ["true", "false"] {
            assert_eq!(agent.run(&format!("return c:setoption('{option}', {value})")), "true");
        }
    }
    let answer = agent.run("return c:setoption('no-such-option', true)");
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -7"), "{answer}");
    agent.run("c:write('still here')");
    assert_eq!(text(&mut tls), "still here");
}

#[test]
fn pending_counts_what_a_read_would_find() {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, LUA54);
    assert_eq!(agent.run("return c:pending()"), "0");
    tls.write_all(b"12345").expect("a write");
    until("five bytes", || agent.run("return c:pending()") == "5");
}

#[test]
fn export_gives_both_ends_the_same_keying_material() {
    let daemon = Daemon::start();
    let (mut agent, tls) = connected(&daemon, LUA54);
    let mut material = [0; 32];
    tls.ssl().export_keying_material(&mut material, "EXPORTER-Channel-Binding", Some(b"")).expect("material");
    let hex: String = material.iter().map(|byte| format!("{byte:02x}")).collect();
    let chunk = "return (c:export('EXPORTER-Channel-Binding', 32, ''):gsub('.', function(char) \
                 return ('%02x'):format(char:byte()) end))";
    assert_eq!(agent.run(chunk), format!("\"{hex}\""));
}

#[test]
fn a_forked_child_goes_on_with_its_contexts_and_the_parent_with_its_own() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUAJIT);
    agent.run("posix = require 'posix'");
    agent.run(&format!("c = assert({CLIENT})"));
    let server = Server::start("server", |_| {});
    agent.run(&format!(
        "child = posix.fork(function() assert(c:connect('localhost', {})) c:write('from the child') c:shutdown() end)",
        server.port()
    ));
    let mut tls = server.accept().expect("a handshake");
    assert_eq!(text(&mut tls), "from the child");
    let _ = tls.shutdown();
    agent.send(&format!("assert(c:connect('localhost', {})) c:write('from the parent')", server.port()));
    let mut tls = server.accept().expect("a handshake");
    agent.answer();
    assert_eq!(text(&mut tls), "from the parent");
}

#[test]
fn a_collected_listener_is_closed() {
    let daemon = Daemon::start();
    for lua in luassl_tests::lua::EVERY_LUA {
        let mut agent = Agent::start(&daemon, lua);
        let port = serve(&mut agent, SERVER);
        agent.run("s = nil collectgarbage() collectgarbage()");
        until("the port to be free", || peer::tcp(port).is_err());
    }
}

#[test]
fn a_bare_key_serves_with_the_chain_that_the_program_brings() {
    let directory = luassl_tests::scratch();
    luassl_tests::copy_file(pki::file("bare/server-p256.key"), directory.path().join("bare.key"));
    let daemon = Daemon::with_config_in(
        "[control]\nsocket = 'SOCKET'\n[identity.bare]\nkey = 'DIR/bare.key'\n\
         [[grant]]\nuser = UID\nidentities = ['bare']\nroles = ['server']\n",
        directory,
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('bare', 'bare/server-p256.crt')");
    let mut tls = accepted(&mut agent, port);
    agent.run("c:write('bare')");
    assert_eq!(text(&mut tls), "bare");
}

#[test]
fn an_identity_answers_to_its_name_and_to_the_paths_of_its_files() {
    let daemon = Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/bare/server-p256.key'\n\
         certificate = 'PKI/bare/server-p256.crt'\naliases = ['www.example']\n\
         [[grant]]\nuser = UID\nidentities = ['site']\nroles = ['server']\n",
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let absolute = pki::file("bare/server-p256.key");
    let certificate = pki::file("bare/server-p256.crt");
    for name in [
        "site",
        "www.example",
        &absolute.display().to_string(),
        &certificate.display().to_string(),
        "bare/server-p256.key",
        "./bare/../bare/server-p256.crt",
    ] {
        assert_eq!(agent.run(&format!("return ssl.wrap('{name}') ~= nil")), "true", "{name}");
    }
}

#[test]
fn trust_of_the_configuration_and_of_a_hashed_directory_verify_a_peer() {
    let directory = luassl_tests::scratch();
    let hashed = directory.path().join("hashed");
    std::fs::create_dir(&hashed).expect("a directory");
    luassl_tests::copy_file(pki::file("keys/rootcert.pem"), hashed.join("root.pem"));
    Process::start(Command::new("openssl").arg("rehash").arg(&hashed)).finish();
    let daemon = Daemon::with_config_in(
        "[control]\nsocket = 'SOCKET'\n[trust.own]\nfile = 'PKI/keys/rootcert.pem'\n\
         [trust.hashed]\ndirectory = 'DIR/hashed'\n[[grant]]\nuser = UID\nroles = ['client']\n",
        directory,
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let server = Server::start("server", |_| {});
    let local = format!("ssl.wrap(nil, nil, '{}')", daemon.directory().join("hashed").display());
    for wrap in ["ssl.wrap{trust = 'own'}", "ssl.wrap{trust = {'hashed'}}", &local] {
        agent.run(&format!("c = assert({wrap})"));
        agent.send(&format!("return c:connect('localhost', {})", server.port()));
        let _tls = server.accept();
        assert_eq!(agent.answer(), "true", "{wrap}");
    }
}
