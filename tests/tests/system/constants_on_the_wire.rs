//! Constants, ciphers and DH parameters that change what goes over the wire, seen from the other end of it.

use crate::api::{port, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{self, s_client, s_server};
use luassl_tests::process::Process;

/// A server with RSA identity, DH parameters, and the given cipher list, verification and options (Lua text).
fn server(agent: &mut Agent, ciphers: &str, verify: &str, options: &str) -> u16 {
    let wrap = format!(
        "ssl.wrap('keys/server.pem', 'keys/rootcert.pem', nil, 'keys/dhparams.pem', {ciphers}, {verify}, {options})"
    );
    serve(agent, &wrap)
}

fn with_options(agent: &mut Agent, options: &str) -> u16 {
    server(agent, "nil", "nil", options)
}

/// `openssl s_client` to the agent's server, after its handshake.
fn visit(agent: &mut Agent, port: u16, options: &[&str]) -> Process {
    agent.send("c = assert(s:accept())");
    let client = s_client(port, options);
    agent.answer();
    client
}

/// What `openssl s_client` reports of a handshake with the agent's server.
fn report(agent: &mut Agent, port: u16, options: &[&str]) -> String {
    let client = visit(agent, port, options);
    agent.run("c:write('the end\\n')");
    client.expect("the end");
    client.output() + &client.errors()
}

/// The agent's server refuses `openssl s_client` with these options, and says so.
fn refuses(agent: &mut Agent, port: u16, options: &[&str]) {
    agent.send("return s:accept{report = true}");
    let answer = agent.answer_to(|| assert!(!s_client(port, options).wait().success()));
    assert!(answer.starts_with("nil, ") && answer.ends_with("\"handshake\""), "{answer}");
}

#[test]
fn op_no_tlsv1_2_and_op_no_tlsv1_3_take_a_version_away() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = with_options(&mut agent, "ssl.OP_NO_TLSv1_2");
    assert!(report(&mut agent, port, &[]).contains("TLSv1.3"));
    refuses(&mut agent, port, &["-tls1_2"]);
    agent.run("s:free()");
    let port = with_options(&mut agent, "ssl.OP_ALL + ssl.OP_NO_TLSv1_3");
    assert!(report(&mut agent, port, &[]).contains("TLSv1.2"));
    refuses(&mut agent, port, &["-tls1_3"]);
}

#[test]
fn the_old_sum_op_all_and_op_no_sslv2_changes_nothing_for_the_worse() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = with_options(
        &mut agent,
        "ssl.OP_ALL + ssl.OP_NO_SSLv2 + ssl.OP_SINGLE_DH_USE + ssl.OP_EPHEMERAL_RSA",
    );
    assert!(report(&mut agent, port, &["-tls1_2"]).contains("Extended master secret: yes"));
    assert!(report(&mut agent, port, &[]).contains("TLSv1.3"));
}

#[test]
fn op_cipher_server_preference_decides_who_chooses() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let order = "'ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256'";
    let client = &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"];
    let port = server(&mut agent, order, "nil", "ssl.OP_CIPHER_SERVER_PREFERENCE");
    assert!(report(&mut agent, port, client).contains("Cipher is ECDHE-RSA-AES256-GCM-SHA384"));
    agent.run("s:free()");
    let port = server(&mut agent, order, "nil", "ssl.OP_ALL");
    assert!(report(&mut agent, port, client).contains("Cipher is ECDHE-RSA-AES128-GCM-SHA256"));
}

#[test]
fn op_prioritize_chacha_gives_a_client_that_prefers_it_its_way() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let order = "'ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305'";
    let client = &["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384"];
    let port = server(&mut agent, order, "nil", "ssl.OP_CIPHER_SERVER_PREFERENCE + ssl.OP_PRIORITIZE_CHACHA");
    assert!(report(&mut agent, port, client).contains("Cipher is ECDHE-RSA-CHACHA20-POLY1305"));
}

#[test]
fn op_no_extended_master_secret_leaves_it_out() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = with_options(&mut agent, "ssl.OP_NO_EXTENDED_MASTER_SECRET");
    assert!(report(&mut agent, port, &["-tls1_2"]).contains("Extended master secret: no"));
}

#[test]
fn op_no_encrypt_then_mac_leaves_the_extension_out() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let client = &["-tls1_2", "-tlsextdebug", "-cipher", "ECDHE-RSA-AES256-SHA384"];
    let extension = "TLS server extension \"encrypt-then-mac\"";
    let ciphers = "'ECDHE-RSA-AES256-SHA384'";
    let port = server(&mut agent, ciphers, "nil", "ssl.OP_ALL");
    assert!(report(&mut agent, port, client).contains(extension));
    agent.run("s:free()");
    let port = server(&mut agent, ciphers, "nil", "ssl.OP_NO_ENCRYPT_THEN_MAC");
    assert!(!report(&mut agent, port, client).contains(extension));
}

#[test]
fn op_enable_middlebox_compat_sends_a_change_cipher_spec_in_tls_1_3() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = with_options(&mut agent, "ssl.OP_ENABLE_MIDDLEBOX_COMPAT");
    let report = report(&mut agent, port, &["-msg", "-tls1_3"]);
    // A record of type 20, and from the server (<<<).
    let mut headers = report.lines().zip(report.lines().skip(1)).filter(|(head, _)| head.starts_with("<<<"));
    assert!(headers.any(|(_, bytes)| bytes.trim() == "14 03 03 00 01"), "{report}");
}

#[test]
fn versions_below_tls_1_2_are_refused_whatever_the_options_say() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = server(&mut agent, "'ALL'", "nil", "ssl.OP_ALL + ssl.OP_NO_SSLv3");
    for version in ["-tls1", "-tls1_1"] {
        refuses(&mut agent, port, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
    }
}

/// Type and length of a handshake message (RFC 8446, 4), in bytes.
const HANDSHAKE_HEADER: usize = 4;

#[test]
fn op_tlsext_padding_pads_the_client_hello() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let plain = client_hello(&mut agent, "ssl.OP_ALL");
    let padded = client_hello(&mut agent, "ssl.OP_TLSEXT_PADDING");
    assert!((256..512).contains(&plain), "{plain} bytes are not what padding is for");
    assert!(padded + HANDSHAKE_HEADER >= 512, "{padded} bytes");
}

/// The length of the ClientHello that a Lua client with these options sends.
fn client_hello(agent: &mut Agent, options: &str) -> usize {
    let server = peer::Server::start("server", |_| {});
    agent.run(&format!("c = assert(ssl.wrap(nil, 'keys/rootcert.pem', nil, nil, nil, nil, {options}))"));
    agent.run("c:settimeout(0.2)");
    agent.send(&format!("return c:connect('localhost', {})", server.port()));
    let mut stream = server.accept_tcp().expect("tcp");
    let mut header = [0; 9];
    std::io::Read::read_exact(&mut stream, &mut header).expect("a record with a ClientHello");
    agent.answer();
    usize::from(header[7]) << 8 | usize::from(header[8])
}

#[test]
fn op_allow_client_renegotiation_lets_the_client_begin_one() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    for (options, allowed) in [("ssl.OP_ALLOW_CLIENT_RENEGOTIATION", true), ("ssl.OP_ALL", false)] {
        let port = with_options(&mut agent, options);
        agent.send("c = assert(s:accept())");
        // Without -ign_eof its input is read for commands.
        let mut client = s_client_with_commands(port);
        agent.answer();
        agent.send("return c:read()");
        client.write("R\n");
        client.expect_error("RENEGOTIATING");
        if allowed {
            client.write("after\n");
            assert_eq!(agent.answer(), "\"after\\010\"");
        } else {
            client.expect_error("no renegotiation");
            assert!(agent.answer().starts_with("nil, "));
        }
        agent.run("s:free()");
    }
}

fn s_client_with_commands(port: u16) -> Process {
    let mut command = std::process::Command::new("openssl");
    command.args(["s_client", "-tls1_2", "-connect", &format!("localhost:{port}")]);
    Process::start(&mut command)
}

#[test]
fn verify_client_once_does_not_ask_again_in_a_renegotiation() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let identity = luassl_tests::pki::file("keys/client.pem").display().to_string();
    for (verify, requests) in [("ssl.VERIFY_PEER", 2), ("ssl.VERIFY_PEER + ssl.VERIFY_CLIENT_ONCE", 1)] {
        let port = server(&mut agent, "nil", verify, "nil");
        let client = visit(&mut agent, port, &["-tls1_2", "-msg", "-cert", &identity, "-key", &identity]);
        assert_eq!(agent.run("return c:renegotiate()"), "true");
        agent.run("c:write('after\\n')");
        client.expect("after");
        assert_eq!(
            client.output().matches("CertificateRequest").count(),
            requests,
            "{}",
            client.transcript()
        );
        agent.run("s:free()");
    }
}

#[test]
fn verify_peer_sends_a_certificate_request() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = server(&mut agent, "nil", "ssl.VERIFY_NONE", "nil");
    assert!(!report(&mut agent, port, &["-msg"]).contains("CertificateRequest"));
    agent.run("s:free()");
    let port = server(&mut agent, "nil", "ssl.VERIFY_PEER", "nil");
    assert!(report(&mut agent, port, &["-msg"]).contains("CertificateRequest"));
}

#[test]
fn dhfile_serves_dhe_with_its_parameters() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = server(&mut agent, "'DHE-RSA-AES256-GCM-SHA384'", "nil", "ssl.OP_SINGLE_DH_USE");
    let report = report(&mut agent, port, &["-tls1_2", "-msg"]);
    assert!(report.contains("Server Temp Key: DH, 2048 bits"), "{report}");
    assert!(report.contains("Cipher is DHE-RSA-AES256-GCM-SHA384"), "{report}");
}

#[test]
fn finding_2_dhfile_without_a_grant_of_dhe_serves_ecdhe_and_is_warned_of_once() {
    let grant = |more: &str| {
        Daemon::with_config(&format!(
            "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n\
             [[grant]]\nuser = UID\nidentities = ['*']\n{more}"
        ))
    };
    const LISTS: &str = "'DHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384'";
    let cipher_of = |daemon: &Daemon| {
        let mut agent = Agent::start(daemon, LUA54);
        let mut cipher = String::new();
        for _ in 0..2 {
            let port = server(&mut agent, LISTS, "nil", "nil");
            let report = report(&mut agent, port, &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384:ALL"]);
            cipher = report.lines().find(|line| line.contains("Cipher is ")).unwrap_or(&report).to_owned();
            agent.run("s:free()");
        }
        cipher
    };
    let daemon = grant("");
    let cipher = cipher_of(&daemon);
    assert!(cipher.contains("Cipher is ECDHE-RSA-AES256-GCM-SHA384"), "{cipher}");
    assert_eq!(daemon.log().matches("its grant does not say `dhe = true`").count(), 1, "{}", daemon.log());
    // Positive control.
    let daemon = grant("dhe = true\n");
    let cipher = cipher_of(&daemon);
    assert!(cipher.contains("Cipher is DHE-RSA-AES256-GCM-SHA384"), "{cipher}");
    assert!(!daemon.log().contains("its grant does not say"), "{}", daemon.log());
}

#[test]
fn the_cipher_list_bounds_what_is_negotiated() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = server(&mut agent, "'ECDHE-RSA-AES128-GCM-SHA256'", "nil", "nil");
    assert!(report(&mut agent, port, &["-tls1_2"]).contains("Cipher is ECDHE-RSA-AES128-GCM-SHA256"));
    refuses(&mut agent, port, &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"]);
}

#[test]
fn named_options_choose_cipher_suites_groups_versions_and_alpn() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let wrap = "ssl.wrap{key = 'keys/server.pem', ciphersuites = 'TLS_CHACHA20_POLY1305_SHA256', groups = 'P-384', \
                minimum_protocol = 'TLSv1.3', alpn = {'h2', 'http/1.1'}}";
    let port = serve(&mut agent, wrap);
    let report = report(&mut agent, port, &["-groups", "P-256:P-384", "-alpn", "http/1.1"]);
    assert!(report.contains("Cipher is TLS_CHACHA20_POLY1305_SHA256"), "{report}");
    assert!(report.contains("secp384r1") || report.contains("P-384"), "{report}");
    assert!(report.contains("ALPN protocol: http/1.1"), "{report}");
    assert_eq!(agent.run("return c:info().alpn"), "\"http/1.1\"");
    refuses(&mut agent, port, &["-tls1_2"]);
}

#[test]
fn renegotiate_is_a_key_update_on_tls_1_3() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = with_options(&mut agent, "nil");
    let client = visit(&mut agent, port, &["-tls1_3", "-msg"]);
    assert_eq!(agent.run("return c:renegotiate()"), "true");
    agent.run("c:write('after\\n')");
    client.expect("KeyUpdate");
    client.expect("after");
}

#[test]
fn renegotiate_is_a_handshake_on_tls_1_2() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = with_options(&mut agent, "nil");
    let mut client = visit(&mut agent, port, &["-tls1_2", "-msg"]);
    agent.run("c:write('before\\n')");
    client.expect("before");
    let handshakes = |client: &Process| client.output().matches(", Handshake [length").count();
    let before = handshakes(&client);
    assert_eq!(agent.run("return c:renegotiate()"), "true");
    agent.run("c:write('after\\n')");
    client.expect("after");
    assert!(handshakes(&client) >= before + 6, "{}", client.transcript());
    client.write("to lua\n");
    assert_eq!(agent.run("return c:read()"), "\"to lua\\010\"");
}

#[test]
fn a_client_renegotiates_with_a_server_that_allows_it() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    for (options, allowed) in [(&["-tls1_2", "-client_renegotiation"][..], true), (&["-tls1_2"], false)] {
        let (mut server, port) = s_server("server", options);
        agent.run("c = assert(ssl.wrap(nil, 'keys/rootcert.pem'))");
        agent.run(&format!("assert(c:connect('localhost', {port}))"));
        let answer = agent.run("return c:renegotiate()");
        if allowed {
            assert_eq!(answer, "true");
            server.write("after\n");
            assert_eq!(agent.run("return c:read()"), "\"after\\010\"");
        } else {
            assert!(answer.starts_with("nil, ") && answer.ends_with(", -1"), "{answer}");
        }
        agent.run("c:free()");
    }
}

#[test]
fn renegotiate_asks_a_tls_1_3_client_for_its_certificate_where_it_offered_that() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = server(&mut agent, "nil", "ssl.VERIFY_PEER + ssl.VERIFY_POST_HANDSHAKE", "nil");
    let identity = luassl_tests::pki::file("keys/client.pem").display().to_string();
    let mut client =
        visit(&mut agent, port, &["-tls1_3", "-enable_pha", "-cert", &identity, "-key", &identity]);
    assert_eq!(agent.run("return c:peercertificate()"), "nil");
    assert_eq!(agent.run("return c:renegotiate()"), "true");
    client.write("hello\n");
    assert_eq!(agent.run("return c:read()"), "\"hello\\010\"");
    assert_eq!(agent.run("return c:peercertificate().subject"), "\"CN=client.example\"");
}

#[test]
fn a_list_of_names_is_as_good_as_a_sum() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    let port = with_options(&mut agent, "{'OP_NO_TLSv1_3', 'OP_ALL'}");
    assert!(report(&mut agent, port, &[]).contains("TLSv1.2"));
}

#[test]
fn sni_chooses_the_identity() {
    let daemon = Daemon::start();
    let mut agent = Agent::start(&daemon, LUA54);
    agent.run(
        "s = assert(ssl.wrap{key = 'keys/server-rsa.pem', sni = {['p256.example'] = 'keys/server-p256.pem', \
         ['*.ed.example'] = 'keys/server-ed25519.pem'}})",
    );
    agent.run("assert(s:bind(0))");
    let port = port(&mut agent);
    for (name, signature) in
        [("p256.example", "ECDSA"), ("a.ed.example", "ed25519"), ("other.example", "RSA-PSS")]
    {
        agent.send("c = assert(s:accept())");
        let identity = luassl_tests::pki::file("keys/rootcert.pem").display().to_string();
        let mut command = std::process::Command::new("openssl");
        command.args([
            "s_client",
            "-connect",
            &format!("localhost:{port}"),
            "-CAfile",
            &identity,
            "-servername",
            name,
        ]);
        let client = Process::start(&mut command);
        agent.answer();
        client.expect(&format!("Peer signature type: {signature}"));
        assert_eq!(agent.run("return c:info().sni"), format!("\"{name}\""));
    }
}
