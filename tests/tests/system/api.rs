//! Every method of the manual by its documented behaviour, against peers that are not luassl.

use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUA54, LUAJIT, Lua};
use luassl_tests::peer::{self, Tls};
use luassl_tests::pki::KEY_TYPES;
use openssl::ssl::{ShutdownState, SslVerifyMode};
use std::io::{Read, Write};

/// A Lua server on a port of its own: the global `s`.
pub(crate) fn serve(agent: &mut Agent, wrap: &str) -> u16 {
    agent.run(&format!("s = assert({wrap})"));
    agent.run("assert(s:bind(0))");
    port(agent)
}

pub(crate) fn port(agent: &mut Agent) -> u16 {
    let port = agent.run("return tonumber(s:getport())");
    port.parse().unwrap_or_else(|_| panic!("no port: {port}"))
}

/// The plainest server.
pub(crate) const SERVER: &str = "ssl.wrap('keys/server.pem')";

/// A connection between the Lua global `c` and the test.
pub(crate) fn accepted(agent: &mut Agent, port: u16) -> Tls {
    agent.send("c = assert(s:accept())");
    let tls = peer::connect(port);
    agent.answer();
    tls
}

/// A server `s`, its connection `c`, and the test's end.
pub(crate) fn connected(daemon: &Daemon, lua: Lua) -> (Agent, Tls) {
    let mut agent = Agent::start(daemon, lua);
    let port = serve(&mut agent, SERVER);
    let tls = accepted(&mut agent, port);
    (agent, tls)
}

/// What comes next, as text.
pub(crate) fn text(tls: &mut Tls) -> String {
    let mut buffer = [0; 4096];
    let count = tls.read(&mut buffer).expect("data");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

fn server_speaks(version: &'static str) {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    for key in KEY_TYPES {
        for certificate in [false, true] {
            let verify = if certificate { "ssl.VERIFY_PEER + ssl.FAIL_IF_NO_PEER_CERT" } else { "nil" };
            let wrap = format!(
                "ssl.wrap('keys/server-{key}.pem', 'keys/rootcert.pem', nil, 'keys/dhparams.pem', nil, {verify})"
            );
            let port = serve(&mut agent, &wrap);
            let connector = peer::connector(|builder| {
                peer::only(builder, version);
                if certificate {
                    peer::with_identity(builder, &format!("client-{key}"));
                }
            });
            agent.send("c = assert(s:accept())");
            let mut tls = peer::connect_with(&connector, port);
            agent.answer();
            echo_from(&mut agent, &mut tls, version);
            let subject = agent.run("local p = c:peercertificate() return p and p.subject");
            assert_eq!(subject, if certificate { "\"CN=client.example\"" } else { "nil" }, "{key}");
            agent.run("s:free()");
        }
    }
}

fn client_speaks(version: &'static str) {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    for key in KEY_TYPES {
        for certificate in [false, true] {
            let server = peer::Server::start(&format!("server-{key}"), |builder| {
                peer::only(builder, version);
                if certificate {
                    peer::demand_certificate(builder);
                }
            });
            let identity = if certificate { format!("'keys/client-{key}.pem'") } else { "nil".to_owned() };
            agent.run(&format!("c = assert(ssl.wrap({identity}, 'keys/rootcert.pem'))"));
            agent.send(&format!("assert(c:connect('localhost', {}))", server.port()));
            let mut tls = server.accept().expect("a handshake");
            agent.answer();
            echo_from(&mut agent, &mut tls, version);
            assert_eq!(tls.ssl().peer_certificate().is_some(), certificate, "{key}");
            agent.run("c:free()");
        }
    }
}

/// A line each way, and the negotiated version.
fn echo_from(agent: &mut Agent, tls: &mut Tls, version: &str) {
    tls.write_all(b"to lua\n").expect("a write");
    assert_eq!(agent.run("return c:read()"), "\"to lua\\010\"");
    assert_eq!(agent.run("return c:write('from lua')"), "");
    assert_eq!(text(tls), "from lua");
    assert_eq!(tls.ssl().version_str(), version);
    assert_eq!(agent.run("return c:info().protocol"), format!("\"{version}\""));
    let cipher = tls.ssl().current_cipher().map_or("", |cipher| cipher.name());
    assert_eq!(agent.run("return c:info().cipher"), format!("\"{cipher}\""));
}

#[test]
fn server_speaks_tls_1_2_with_every_key_with_and_without_client_certificates() {
    server_speaks("TLSv1.2");
}

#[test]
fn server_speaks_tls_1_3_with_every_key_with_and_without_client_certificates() {
    server_speaks("TLSv1.3");
}

#[test]
fn client_speaks_tls_1_2_with_every_key_with_and_without_client_certificates() {
    client_speaks("TLSv1.2");
}

#[test]
fn client_speaks_tls_1_3_with_every_key_with_and_without_client_certificates() {
    client_speaks("TLSv1.3");
}

on_every_lua! { connection_echoes read_tells_a_clean_close_from_a_cut connect_fails_with_a_message_and_a_code }

fn connection_echoes(lua: Lua) {
    let daemon = Daemon::start();
    let (mut agent, mut tls) = connected(&daemon, lua);
    tls.write_all(b"\0binary\xff\r\n").expect("a write");
    assert_eq!(agent.run("return c:read()"), "\"\\000binary\\255\\013\\010\"");
    assert_eq!(agent.run("return select('#', c:write('\\0\\255x'))"), "0");
    let mut bytes = [0; 3];
    tls.read_exact(&mut bytes).expect("three bytes");
    assert_eq!(&bytes, b"\0\xffx");
}

fn read_tells_a_clean_close_from_a_cut(lua: Lua) {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, lua);
    let port = serve(&mut agent, SERVER);

    let mut tls = accepted(&mut agent, port);
    tls.write_all(b"last").expect("a write");
    tls.shutdown().expect("a shutdown");
    assert_eq!(agent.run("return c:read()"), "\"last\"");
    let end = agent.run("return c:read()");
    assert!(end.starts_with("nil, 0"), "{end}");

    let mut tls = accepted(&mut agent, port);
    tls.write_all(b"last").expect("a write");
    tls.get_ref().shutdown(std::net::Shutdown::Both).expect("a cut");
    assert_eq!(agent.run("return c:read()"), "\"last\"");
    let end = agent.run("return c:read()");
    assert!(end.starts_with("nil, -3"), "{end}");
}

fn connect_fails_with_a_message_and_a_code(lua: Lua) {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, lua);
    let server = peer::Server::start("server", |_| {});
    agent.run("c = assert(ssl.wrap(nil, 'keys/rootcert.pem'))");
    agent.send(&format!("return c:connect('localhost', {}, 'other.example')", server.port()));
    assert!(server.accept().and_then(|mut tls| tls.read(&mut [0]).map_err(|e| e.to_string())).is_err());
    let answer = agent.answer();
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -5"), "{answer}");
    assert!(answer.contains("other.example"), "{answer}");
}

#[test]
fn accept_goes_on_waiting_after_a_peer_whose_handshake_fails() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.send("c = assert(s:accept())");
    peer::tcp(port).expect("tcp").write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a write");
    drop(peer::tcp(port).expect("tcp"));
    let mut tls = peer::connect(port);
    agent.answer();
    tls.write_all(b"good").expect("a write");
    assert_eq!(agent.run("return c:read()"), "\"good\"");
}

#[test]
fn accept_replaces_the_connection_of_the_object_and_keeps_those_it_returned() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.send("one = assert(s:accept())");
    let mut first = peer::connect(port);
    agent.answer();
    agent.send("two = assert(s:accept())");
    let mut second = peer::connect(port);
    agent.answer();
    second.write_all(b"second").expect("a write");
    assert_eq!(agent.run("return s:read()"), "\"second\"");
    first.write_all(b"first").expect("a write");
    assert_eq!(agent.run("return one:read()"), "\"first\"");
}

#[test]
fn accept_of_an_expected_peer_fails_for_another() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let wrap = "ssl.wrap('keys/server.pem', 'keys/rootcert.pem', nil, nil, nil, ssl.VERIFY_PEER)";
    let port = serve(&mut agent, wrap);
    let connector = peer::connector(|builder| peer::with_identity(builder, "client"));
    agent.send("return s:accept('client.example')");
    let _known = peer::connect_with(&connector, port);
    assert_eq!(agent.answer(), "object");
    agent.send("return s:accept('other.example')");
    let _unknown = peer::try_connect(&connector, port);
    let answer = agent.answer();
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -5"), "{answer}");
}

#[test]
fn bind_takes_numbers_and_strings_and_an_address() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let number = serve(&mut agent, SERVER);
    assert_ne!(number, 0);
    agent.run("s:free()");
    agent.run(&format!("s = assert({SERVER})"));
    agent.run(&format!("assert(s:bind('{number}', '127.0.0.1'))"));
    assert_eq!(agent.run("return s:getport()"), format!("\"{number}\""));
    let _tls = accepted(&mut agent, number);
}

#[test]
fn shutdown_of_a_connection_sends_close_notify_and_keeps_the_listener() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    for _ in 0..2 {
        let mut tls = accepted(&mut agent, port);
        agent.send("s:write('bye') s:shutdown()");
        assert_eq!(text(&mut tls), "bye");
        assert_eq!(tls.read(&mut [0; 16]).expect("a clean end"), 0);
        assert!(tls.get_shutdown().contains(ShutdownState::RECEIVED));
        let _ = tls.shutdown();
        agent.answer();
    }
}

#[test]
fn shutdown_without_a_connection_makes_the_address_free_again() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    agent.run("s:shutdown()");
    agent.run("s:shutdown()");
    luassl_tests::until("the port to be free", || peer::tcp(port).is_err());
    agent.run(&format!("s = assert({SERVER}) assert(s:bind({port}))"));
    let _tls = accepted(&mut agent, port);
}

#[test]
fn clear_drops_the_connection_without_close_notify_and_accepts_again() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, SERVER);
    let mut tls = accepted(&mut agent, port);
    agent.run("s:clear()");
    assert!(tls.read(&mut [0; 16]).is_err() || !tls.get_shutdown().contains(ShutdownState::RECEIVED));
    let mut tls = accepted(&mut agent, port);
    agent.run("s:write('again')");
    assert_eq!(text(&mut tls), "again");
}

#[test]
fn write_after_the_peer_has_gone_gives_a_code_and_a_message_and_no_signal() {
    let daemon = Daemon::start();
    for lua in [LUA54, LUAJIT] {
        let (mut agent, tls) = connected(&daemon, lua);
        drop(tls);
        let chunk = "for n = 1, 1000 do local code, message = c:write(('x'):rep(65536)) \
                     if code then return code, message end end return 'never'";
        let answer = agent.run(chunk);
        let code: i32 = answer.split(',').next().and_then(|code| code.parse().ok()).unwrap_or(1);
        assert!(code < 0, "{answer}");
        assert_eq!(agent.run("return 'alive'"), "\"alive\"");
    }
}

#[test]
fn connect_checks_the_address_unless_told_otherwise() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let server = peer::Server::start("server", |_| {});
    for (arguments, good) in [
        ("'localhost', PORT", true),
        ("'127.0.0.1', 'PORT'", true),
        ("'127.0.0.1', PORT, 'localhost'", true),
        ("'localhost', PORT, 'wrong.example'", false),
        ("'localhost', PORT, false", true),
    ] {
        agent.run("c = assert(ssl.wrap(nil, 'keys/rootcert.pem'))");
        agent.send(&format!("return c:connect({})", arguments.replace("PORT", &server.port().to_string())));
        let _tls = server.accept();
        let answer = agent.answer();
        assert_eq!(answer == "true", good, "{arguments}: {answer}");
    }
}

#[test]
fn wrap_verifies_against_the_given_authority_only() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let server = peer::Server::start("server", |_| {});
    agent.run("c = assert(ssl.wrap())");
    agent.send(&format!("return c:connect('localhost', {})", server.port()));
    let _refused = server.accept();
    let answer = agent.answer();
    assert!(answer.ends_with(", -5"), "{answer}");
    agent.run("c = assert(ssl.wrap(nil, nil, nil, nil, nil, ssl.VERIFY_NONE))");
    agent.send(&format!("return c:connect('localhost', {})", server.port()));
    let _tls = server.accept().expect("a handshake");
    assert_eq!(agent.answer(), "true");
}

#[test]
fn verify_peer_asks_for_a_certificate_and_goes_on_without_one() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let wrap = "ssl.wrap('keys/server.pem', 'keys/rootcert.pem', nil, nil, nil, ssl.VERIFY_PEER)";
    let port = serve(&mut agent, wrap);
    let _tls = accepted(&mut agent, port);
    assert_eq!(agent.run("return c:peercertificate()"), "nil");
}

#[test]
fn fail_if_no_peer_cert_refuses_a_client_without_one() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let wrap = "ssl.wrap('keys/server.pem', 'keys/rootcert.pem', nil, nil, nil, \
                ssl.VERIFY_PEER + ssl.VERIFY_FAIL_IF_NO_PEER_CERT)";
    let port = serve(&mut agent, wrap);
    agent.send("c = assert(s:accept())");
    let refused = peer::connector(|builder| peer::only(builder, "TLSv1.2"));
    assert!(peer::try_connect(&refused, port).is_err());
    let connector = peer::connector(|builder| peer::with_identity(builder, "client"));
    let _tls = peer::connect_with(&connector, port);
    agent.answer();
    assert_eq!(agent.run("return c:peercertificate().subject"), "\"CN=client.example\"");
}

#[test]
fn a_client_certificate_of_another_authority_is_refused() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let wrap = "ssl.wrap('keys/server.pem', 'keys/rootcert.pem', nil, nil, nil, ssl.VERIFY_PEER)";
    let port = serve(&mut agent, wrap);
    agent.send("return s:accept{report = true}");
    let stranger = luassl_tests::pki::issue(
        &luassl_tests::pki::Leaf { usage: "clientAuth", ..Default::default() },
        None,
    );
    let connector = peer::connector(|builder| {
        peer::only(builder, "TLSv1.2");
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_certificate(&stranger.certificate).expect("a certificate");
        builder.set_private_key(&stranger.key).expect("a key");
    });
    let answer = agent.answer_to(|| assert!(peer::try_connect(&connector, port).is_err()));
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -5, \"handshake\""), "{answer}");
}

#[test]
fn create_gives_an_object_without_a_context_and_wrap_gives_it_one() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    agent.run("s = assert(ssl.create())");
    agent.run("assert(s:wrap('keys/server.pem'))");
    agent.run("assert(s:bind(0))");
    let port = port(&mut agent);
    let mut tls = accepted(&mut agent, port);
    agent.run("s:write('hello')");
    assert_eq!(text(&mut tls), "hello");
}

#[test]
fn classic_returns_nothing_and_throws_failures() {
    let daemon = Daemon::start();
    let mut agent = Agent::classic(&daemon, LUA54);
    agent.run("s = ssl.wrap('keys/server.pem', 'keys/rootcert.pem')");
    assert_eq!(agent.run("return select('#', s:bind(0))"), "0");
    let port = port(&mut agent);
    let message = agent.error("ssl.wrap('keys/no-such.pem')");
    assert!(message.contains("keys/no-such.pem"), "{message}");
    agent.send("c = s:accept()");
    let _tls = peer::connect(port);
    agent.answer();
    assert_eq!(agent.run("return select('#', s:shutdown())"), "0");
    assert_eq!(agent.run("return select('#', s:clear())"), "0");
    assert_eq!(agent.run("return select('#', s:free())"), "0");
}

#[test]
fn every_constant_of_luassl_1_0_is_there_and_sums_are_numbers() {
    let names = "OP_MICROSOFT_SESS_ID_BUG OP_NETSCAPE_CHALLENGE_BUG OP_NETSCAPE_REUSE_CIPHER_CHANGE_BUG \
        OP_SSLREF2_REUSE_CERT_TYPE_BUG OP_MICROSOFT_BIG_SSLV3_BUFFER OP_MSIE_SSLV2_RSA_PADDING \
        OP_SSLEAY_080_CLIENT_DH_BUG OP_TLS_D5_BUG OP_TLS_BLOCK_PADDING_BUG OP_DONT_INSERT_EMPTY_FRAGMENTS OP_ALL \
        OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION OP_SINGLE_DH_USE OP_EPHEMERAL_RSA OP_CIPHER_SERVER_PREFERENCE \
        OP_TLS_ROLLBACK_BUG OP_NO_SSLv2 OP_NO_SSLv3 OP_NO_TLSv1 OP_PKCS1_CHECK_1 OP_PKCS1_CHECK_2 \
        OP_NETSCAPE_CA_DN_BUG OP_NETSCAPE_DEMO_CIPHER_CHANGE_BUG VERIFY_NONE VERIFY_PEER \
        VERIFY_FAIL_IF_NO_PEER_CERT VERIFY_CLIENT_ONCE FAIL_IF_NO_PEER_CERT";
    let daemon = Daemon::start();
    for lua in luassl_tests::lua::EVERY_LUA {
        let mut agent = Agent::start(&daemon, lua);
        let sum = agent.run(&format!(
            "local sum = 0 for name in ('{names}'):gmatch('%S+') do \
             assert(type(ssl[name]) == 'number', name) sum = sum + ssl[name] end return sum"
        ));
        assert!(sum.parse::<u64>().is_ok_and(|sum| sum > 0), "{lua:?}: {sum}");
    }
}
