//! What LuaSec's API has beside certificates, against peers that are not luassl: keys that peers share, TLSA records, and
//! what is more than LuaSec's.

use luassl_protocol::{Connect, Connecting, ContextSpec, LockStepRequest, Mode, PskSpec, Request, Role};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{self, Server};
use luassl_tests::process::Process;
use luassl_tests::wire::Control;
use luassl_tests::{pki, repository, scratch, until};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const VERSIONS: [(&str, &str); 2] = [("tlsv1_2", "-tls1_2"), ("tlsv1_3", "-tls1_3")];
/// `kkkkkkkk`
const KEY: &str = "6b6b6b6b6b6b6b6b";

/// A Lua program with luassl in LuaSec's place, and how it talks. `dial` closes what it had dialled, since s_server serves
/// one client after the other.
fn program(daemon: &Daemon) -> Agent {
    let mut command = LUA54.luasec_command(daemon, &[]);
    command.current_dir(pki::file(""));
    let mut agent = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
    agent.run(
        "socket, ssl = require 'socket', require 'ssl'
        function dial(port, config)
            if last then last:close() end
            config.mode, config.protocol = 'client', config.protocol or 'any'
            last = assert(ssl.wrap(assert(socket.connect('127.0.0.1', port)), config))
            return last
        end
        function talk(conn)
            local done, reason = conn:dohandshake()
            if not done then return reason end
            assert(conn:send('hello\\n'))
            return (assert(conn:receive('*l')))
        end
        function serve()
            listener = assert(socket.bind('127.0.0.1', 0))
            return tonumber((select(2, listener:getsockname())))
        end
        function accept(config)
            config.mode, config.protocol = 'server', config.protocol or 'any'
            conn = assert(ssl.wrap(assert(listener:accept()), config))
            local done, reason = conn:dohandshake()
            return done and conn:receive('*l') or reason
        end",
    );
    agent
}

fn with_grant(more: &str) -> Daemon {
    Daemon::with_config(&format!(
        "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/keys/server.pem'\n\
         [[grant]]\nuser = UID\nidentities = ['site']\nroles = ['server', 'client']\n{more}"
    ))
}

fn number(text: &str) -> u16 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no port"))
}

#[test]
fn a_client_with_a_psk_talks_to_s_server() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    for (protocol, option) in VERSIONS {
        let options = ["-nocert", "-psk", KEY, "-psk_identity", "us", "-psk_hint", "who", option, "-rev"];
        let (_server, port) = peer::s_server("server", &options);
        for psk in
            ["{identity = 'us', key = 'kkkkkkkk'}", "function(hint) said = hint return 'us', 'kkkkkkkk' end"]
        {
            let answer =
                lua.run(&format!("return talk(dial({port}, {{protocol = '{protocol}', psk = {psk}}}))"));
            assert_eq!(answer, "\"olleh\"", "{protocol} {psk}");
        }
        let hint = if protocol == "tlsv1_2" { "\"who\"" } else { "nil" };
        assert_eq!(lua.run("return said"), hint);
    }
}

#[test]
fn a_server_with_a_psk_talks_to_s_client() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    let port = number(&lua.run("return serve()"));
    for (protocol, option) in VERSIONS {
        for psk in [
            "{keys = {us = 'kkkkkkkk'}, hint = 'who'}",
            "function(name) return name == 'us' and 'kkkkkkkk' end",
        ] {
            lua.send(&format!("return accept{{protocol = '{protocol}', psk = {psk}}}"));
            let mut client = s_client_with_psk(port, KEY, option);
            client.write("from s_client\n");
            assert_eq!(lua.answer(), "\"from s_client\"", "{}", client.transcript());
            lua.run("conn:close()");
        }
        lua.send(&format!("return accept{{protocol = '{protocol}', psk = function() return 'other' end}}"));
        let _client = s_client_with_psk(port, KEY, option);
        assert_ne!(lua.answer(), "\"from s_client\"");
    }
}

fn s_client_with_psk(port: u16, key: &str, version: &str) -> Process {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-psk", key, "-psk_identity", "us"]);
    Process::start(command.args([version, "-quiet", "-ign_eof"]))
}

fn threads(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", daemon.front())).map_or(0, Iterator::count)
}

#[test]
fn handshakes_that_ask_for_a_psk_are_bounded_and_leave_no_thread_behind() {
    let daemon = with_grant("[limits]\npsk_handshakes_per_owner = 2\n");
    let mut lua = program(&daemon);
    let before = threads(&daemon);
    let port = number(&lua.run("return serve()"));
    lua.run(&format!(
        "pairs_of = {{}}
        context = assert(ssl.newcontext{{mode = 'server', protocol = 'any', psk = function() return 'k' end}})
        function begin()
            local tcp = assert(socket.connect('127.0.0.1', {port}))
            local conn = assert(ssl.wrap(assert(listener:accept()), context))
            conn:settimeout(0)
            table.insert(pairs_of, {{tcp, conn}})
            return conn:dohandshake()
        end"
    ));
    assert_eq!(lua.run("return begin()"), "false, \"wantread\"");
    assert_eq!(lua.run("return begin()"), "false, \"wantread\"");
    assert!(threads(&daemon) >= before + 2);
    let refused = lua.run("return begin()");
    assert!(refused.contains("psk_handshakes_per_owner"), "{refused}");
    // Others are not in their way.
    let server = Server::start("server", |_| {});
    lua.send(&format!("return talk(dial({}, {{}}))", server.port()));
    let mut tls = server.accept().expect("a handshake");
    let mut line = [0; 6];
    tls.read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"hello\n");
    drop(tls);
    lua.outcome(luassl_tests::PATIENCE).expect_err("no answer");
    lua.run("for _, pair in ipairs(pairs_of) do pair[2]:close() end");
    until("the threads to end", || threads(&daemon) <= before);
    assert_eq!(lua.run("return begin()"), "false, \"wantread\"");
}

#[test]
fn a_handshake_that_asks_for_a_psk_has_a_deadline() {
    let daemon = with_grant("[limits]\nhandshake = 0.3\n");
    let before = threads(&daemon);
    let mut lua = program(&daemon);
    let port = number(&lua.run("return serve()"));
    // The peer never says a word.
    let answer = lua.run(&format!(
        "tcp = assert(socket.connect('127.0.0.1', {port}))
        conn = assert(ssl.wrap(assert(listener:accept()),
            {{mode = 'server', protocol = 'any', psk = function() return 'k' end}}))
        conn:settimeout(0)
        for _ = 1, 1000 do
            local done, reason = conn:dohandshake()
            if reason ~= 'wantread' then return done, reason end
            socket.sleep(0.02)
        end"
    ));
    assert_eq!(answer, "false, \"closed\"");
    until("the thread to end", || threads(&daemon) <= before);
    // The program never answers.
    lua.send("return accept{protocol = 'tlsv1_3', psk = function() socket.sleep(1) return 'kkkkkkkk' end}");
    let mut client = s_client_with_psk(port, KEY, "-tls1_3");
    client.write("too late\n");
    assert_ne!(lua.answer(), "\"too late\"");
    until("the thread to end", || threads(&daemon) <= before);
}

/// A control connection, and a lock-step connection whose peer is silent.
fn lock_step(daemon: &Daemon, spec: ContextSpec) -> (Control, UnixStream, (TcpStream, TcpStream)) {
    let mut raw = Control::open(&daemon.socket());
    let context = raw.context(spec).expect("a context");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let tcp = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (peer, _) = listener.accept().expect("its other end");
    let request = Request::Connect(Connect::new(context, Role::Server, Mode::LockStep));
    let (_, socket) = raw.pass::<Connecting>(&request, &[peer.as_fd()]).expect("a connection");
    let socket = UnixStream::from(socket.expect("its socket"));
    socket.set_nonblocking(false).expect("a flag");
    socket.set_read_timeout(Some(luassl_tests::PATIENCE)).expect("a timeout");
    (raw, socket, (tcp, peer))
}

#[test]
fn half_a_question_has_a_deadline() {
    use std::io::Write;
    let daemon = with_grant("[limits]\nrequest = 0.3\n");
    let site = || ContextSpec { identity: Some("site".into()), ..ContextSpec::default() };
    let frame = LockStepRequest::Handshake.to_frame().expect("a frame");
    for length in [1, 4, frame.len() - 1] {
        let (_raw, mut socket, _tcp) = lock_step(&daemon, site());
        socket.write_all(&frame).expect("sent");
        let mut answer = [0; 64];
        assert!(socket.read(&mut answer).expect("an answer") > 4);
        socket.write_all(&frame[..length]).expect("sent");
        assert_eq!(socket.read(&mut answer).expect("the end"), 0, "{length} bytes");
    }
    // A question that never begins has none.
    let (_raw, mut socket, _tcp) = lock_step(&daemon, site());
    std::thread::sleep(std::time::Duration::from_millis(600));
    socket.write_all(&frame).expect("sent");
    assert!(socket.read(&mut [0; 64]).expect("an answer") > 4);
}

#[test]
fn a_grant_that_requires_verification_has_neither_psk_nor_dane() {
    let daemon = with_grant("verify_required = true\n");
    let mut raw = Control::open(&daemon.socket());
    let psk = Some(PskSpec { ask: true, ..PskSpec::default() });
    let dane = Some(luassl_protocol::DaneSpec::default());
    for spec in [
        ContextSpec { psk, ..ContextSpec::default() },
        ContextSpec { dane, ..ContextSpec::default() },
        ContextSpec { key_log: true, ..ContextSpec::default() },
    ] {
        let failure = raw.context(spec).expect_err("refused");
        assert_eq!(failure.code, luassl_protocol::ErrorCode::Refused, "{failure}");
    }
    assert!(raw.context(ContextSpec::default()).is_ok());
}

/// The SHA-256 of a certificate's public key, in hex.
fn public_key_digest(name: &str) -> String {
    let pem = std::fs::read(pki::file(name)).expect("a file");
    let certificate = openssl::x509::X509::from_pem(&pem).expect("a certificate");
    let key = certificate.public_key().and_then(|key| key.public_key_to_der()).expect("a key");
    openssl::sha::sha256(&key).iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[test]
fn a_client_verifies_s_server_by_its_tlsa_record() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    let (_server, port) = peer::s_server("server", &["-rev"]);
    let mut dial = |host: &str, data: &str| {
        lua.run(&format!(
            "local conn = dial({port}, {{verify = 'peer', dane = true}})
            assert(conn:setdane('{host}'))
            assert(conn:settlsa(3, 1, 1, '{data}'))
            return talk(conn), conn:getpeerverification()"
        ))
    };
    let good = public_key_digest("keys/server.pem");
    assert_eq!(dial("localhost", &good), "\"olleh\", true");
    assert!(dial("localhost", &public_key_digest("keys/client.pem")).contains("certificate verify failed"));
    assert!(dial("other.example", &good).contains("certificate verify failed"));
}

#[test]
fn verify_host_checks_the_name_that_the_program_gives_or_asks_for() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    let (_server, port) = peer::s_server("server", &["-rev"]);
    let mut dial = |host: &str, sni: &str| {
        lua.run(&format!(
            "local conn = dial({port}, {{verify = 'peer', cafile = 'ca/root.crt', verify_host = {host}}})
            {sni}
            return talk(conn)"
        ))
    };
    assert_eq!(dial("'localhost'", ""), "\"olleh\"");
    assert_eq!(dial("'127.0.0.1'", ""), "\"olleh\"");
    assert_eq!(dial("true", "conn:sni('localhost')"), "\"olleh\"");
    assert_eq!(dial("'other.example'", "conn:sni('localhost')"), "\"certificate verify failed\"");
    assert_eq!(dial("true", "conn:sni('other.example')"), "\"certificate verify failed\"");
    assert!(dial("true", "").contains("call sni"));
    let unverified = lua.run(
        "return ssl.newcontext{mode = 'client', protocol = 'any', verify_host = 'localhost', verify = 'none'}",
    );
    assert!(unverified.contains("verify = "), "{unverified}");
}

#[test]
fn the_daemon_has_trusts_by_name() {
    let daemon = with_grant("[trust.ours]\nfile = 'PKI/ca/root.crt'\n");
    let mut lua = program(&daemon);
    let (_server, port) = peer::s_server("server", &["-rev"]);
    let mut dial =
        |trust: &str| lua.run(&format!("return talk(dial({port}, {{verify = 'peer', trust = {trust}}}))"));
    assert_eq!(dial("'ours'"), "\"olleh\"");
    assert_eq!(dial("{'system', 'ours'}"), "\"olleh\"");
    assert_eq!(dial("'system'"), "\"certificate verify failed\"");
    let unknown = lua.run("return ssl.newcontext{mode = 'client', protocol = 'any', trust = 'nobody'}");
    assert!(unknown.starts_with("nil, \"error loading CA locations ("), "{unknown}");
}

#[test]
fn a_client_that_asks_for_it_resumes_and_others_do_not() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    for (protocol, option) in VERSIONS {
        let (_server, port) = peer::s_server("server", &["-rev", option]);
        lua.run(&format!(
            "function reused(resumption)
                local conn = dial({port}, {{verify = 'peer', cafile = 'ca/root.crt', resumption = resumption}})
                assert(talk(conn) == 'olleh')
                local info = conn:info()
                conn:close()
                return info.reused, info.protocol
            end"
        ));
        let version = if protocol == "tlsv1_2" { "\"TLSv1.2\"" } else { "\"TLSv1.3\"" };
        assert_eq!(lua.run("return reused(true)"), format!("false, {version}"));
        assert_eq!(lua.run("return reused(true)"), format!("true, {version}"));
        assert_eq!(lua.run("return reused(nil)"), format!("false, {version}"));
    }
}

#[test]
fn a_keys_path_is_resolved_as_text() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    let absolute = pki::file("keys//../keys/./server.pem");
    for path in ["keys/server.pem", "./ca/..//keys/server.pem", absolute.to_str().expect("a path")] {
        let answer = lua.run(&format!(
            "return ssl.newcontext{{mode = 'server', protocol = 'any', key = '{path}', certificate = 'keys/server.pem'}}"
        ));
        assert_eq!(answer, "object", "{path}");
    }
    let unknown =
        lua.run("return ssl.newcontext{mode = 'server', protocol = 'any', key = 'keys/../server.pem'}");
    assert!(unknown.starts_with("nil, "), "{unknown}");
}

#[test]
fn a_lower_level_of_security_is_refused_by_its_name() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    let refused =
        lua.run("return ssl.newcontext{mode = 'client', protocol = 'any', ciphers = 'ALL:@SECLEVEL=0'}");
    assert!(
        refused.starts_with("nil, \"error setting cipher list (") && refused.contains("SECLEVEL"),
        "{refused}"
    );
}

#[test]
fn info_tells_the_group() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    let (_server, port) = peer::s_server("server", &["-rev", "-groups", "P-384"]);
    let group = lua.run(&format!("conn = dial({port}, {{}}) assert(talk(conn)) return conn:info('group')"));
    assert_eq!(group, "\"secp384r1\"");
}

/// An OCSP response about the PKI's RSA server; `status` is a letter of openssl's index.
fn response(directory: &Path, status: char) -> PathBuf {
    let leaf = pki::file("keys/server.pem");
    let pem = std::fs::read(&leaf).expect("a file");
    let serial = openssl::x509::X509::from_pem(&pem).expect("a certificate").serial_number().to_bn();
    let serial = serial.and_then(|serial| serial.to_hex_str()).expect("a serial number").to_string();
    let revoked = if status == 'R' { "200101000000Z" } else { "" };
    let (index, response) = (directory.join("index"), directory.join("response"));
    std::fs::write(&index, format!("{status}\t991231235959Z\t{revoked}\t{serial}\tunknown\t/CN=x\n"))
        .expect("an index");
    let issuer = pki::file("ca/server-ca.crt");
    let made = Command::new("openssl")
        .args(["ocsp", "-noverify", "-ndays", "1", "-index"])
        .arg(index)
        .arg("-CA")
        .arg(&issuer)
        .arg("-rsigner")
        .arg(&issuer)
        .arg("-rkey")
        .arg(pki::file("ca/server-ca.key"))
        .arg("-issuer")
        .arg(&issuer)
        .arg("-cert")
        .arg(leaf)
        .arg("-respout")
        .arg(&response)
        .output()
        .expect("the openssl command");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    response
}

#[test]
fn a_client_tells_what_a_stapled_response_says() {
    let daemon = Daemon::start();
    let mut lua = program(&daemon);
    let directory = scratch();
    for (status, said) in [('V', "\"good\""), ('R', "\"revoked\"")] {
        let response = response(directory.path(), status);
        let response = response.to_str().expect("a path");
        for (_, version) in VERSIONS {
            let (_server, port) = peer::s_server("server", &["-rev", "-status_file", response, version]);
            let mut dial = |more: &str| {
                lua.run(&format!(
                    "conn = dial({port}, {{verify = 'peer', cafile = 'ca/root.crt', {more}}})
                    assert(talk(conn) == 'olleh')
                    local status, second = conn:ocsp()
                    return status, status and #second > 100 or second"
                ))
            };
            assert_eq!(dial("ocsp = true"), format!("{said}, true"), "{version}");
            assert_eq!(dial(""), "nil, \"no response\"");
        }
    }
    // Of another certificate, or of nobody's signature, it says nothing.
    let response = response(directory.path(), 'V');
    let mut bytes = std::fs::read(&response).expect("a response");
    let signature =
        bytes.windows(5).position(|bytes| bytes == [3, 0x82, 1, 1, 0]).expect("a bit string") + 20;
    bytes[signature] ^= 1;
    std::fs::write(&response, bytes).expect("a response");
    let (_server, port) =
        peer::s_server("server", &["-rev", "-status_file", response.to_str().expect("a path")]);
    let answer = lua.run(&format!(
        "conn = dial({port}, {{verify = 'peer', cafile = 'ca/root.crt', ocsp = true}})
        assert(talk(conn) == 'olleh')
        return conn:ocsp()"
    ));
    assert!(answer.starts_with("nil, \"its signature"), "{answer}");
}

#[test]
fn a_server_staples_its_identitys_response() {
    let directory = scratch();
    let staple = response(directory.path(), 'V');
    let daemon = Daemon::with_config(&format!(
        "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/keys/server.pem'\nstaple = '{}'\n\
         [[grant]]\nuser = UID\nidentities = ['site']\nroles = ['server']\n",
        staple.display()
    ));
    let mut lua = program(&daemon);
    let port = number(&lua.run("return serve()"));
    let site = "key = 'site', certificate = 'keys/server.pem'";
    for map in ["", "alpn = function(list) return list[1] end"] {
        lua.send(&format!("return accept{{{site}, {map}}}"));
        let mut client = peer::s_client(port, &["-status", "-alpn", "h2"]);
        client.expect("OCSP Response Status: successful");
        client.write("seen\n");
        assert_eq!(lua.answer(), "\"seen\"");
        lua.run("conn:close()");
    }
}

#[test]
fn a_grant_of_key_log_tells_the_programs_own_secrets() {
    let daemon = with_grant("key_log = true\n");
    let mut lua = program(&daemon);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        let server = Server::start("server", |builder| {
            peer::only(builder, version);
            builder.set_keylog_callback(move |_, line| log.lock().expect("a log").push(line.to_owned()));
        });
        lua.send(&format!("conn = dial({}, {{keylog = true}}) return conn:dohandshake()", server.port()));
        let _tls = server.accept().expect("a handshake");
        assert_eq!(lua.answer(), "true");
        let told = lua.run("return conn:keylog()");
        let lines = lines.lock().expect("a log");
        let known = lines.iter().filter(|line| told.contains(line.as_str())).count();
        assert!(known >= if version == "TLSv1.2" { 1 } else { 4 }, "{told}");
        assert_eq!(lua.run("return conn:info('protocol')"), format!("\"{version}\""));
    }
    let plain = lua.run("return (ssl.newcontext{mode = 'client', protocol = 'any'}) ~= nil");
    assert_eq!(plain, "true");
    let daemon = with_grant("");
    let mut lua = program(&daemon);
    let refused = lua.run("return ssl.newcontext{mode = 'client', protocol = 'any', keylog = true}");
    assert!(refused.contains("key_log"), "{refused}");
}
