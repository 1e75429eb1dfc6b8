//! A peer that comes back resumes its session, wherever its connection ends up; and never under other settings than
//! those that it was made under (attack 17 of the list in docs/threat-model.md).

use crate::api::serve;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{self, Server, Tls};
use luassl_tests::process::Process;
use luassl_tests::{pki, repository, scratch, until};
use openssl::ssl::{
    Ssl, SslConnector, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions, SslSession,
    SslSessionCacheMode, SslStream, SslVerifyMode,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// A version, and how its sessions are remembered.
const WAYS: [(&str, Means); 4] =
    [("TLSv1.2", Means::Ticket), ("TLSv1.2", Means::Id), ("TLSv1.3", Means::Ticket), ("TLSv1.3", Means::Id)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Ticket,
    Id,
}

/// A server's settings in Lua, with more `options`.
fn wrap((version, means): (&str, Means), key: &str, options: &str) -> String {
    let no_ticket = if means == Means::Id { "options = {'no_ticket'}," } else { "" };
    format!("ssl.wrap{{key = 'keys/{key}.pem', maximum_protocol = '{version}', {no_ticket} {options}}}")
}

const DEMAND: &str = "verify = {'peer', 'fail_if_no_peer_cert'}, cafile = 'keys/rootcert.pem'";

/// A Lua server, in a process of its own.
struct Site {
    agent: Agent,
    port: u16,
}

impl Site {
    fn open(daemon: &Daemon, wrap: &str) -> Self {
        Self::of(Agent::start(daemon, LUA54), wrap)
    }

    /// As another owner: the same user, who came in by the socket `tenant`.
    fn of_tenant(daemon: &Daemon, wrap: &str) -> Self {
        let mut command = LUA54.command_at(&daemon.directory().join("tenant.sock"));
        let mut agent = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
        agent.run("ssl = require 'luassl'");
        Self::of(agent, wrap)
    }

    fn of(mut agent: Agent, wrap: &str) -> Self {
        let port = serve(&mut agent, wrap);
        Self { agent, port }
    }
}

/// A client that is no luassl. It keeps what servers give it and offers any session to any server.
struct Visitor {
    connector: SslConnector,
    sessions: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Visitor {
    fn new(certificate: Option<&str>) -> Self {
        let sessions = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let given = Arc::clone(&sessions);
        let connector = peer::connector(|builder| {
            if let Some(name) = certificate {
                peer::with_identity(builder, name);
            }
            builder.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
            builder.set_new_session_callback(move |_, session| {
                given.lock().expect("no panic").push(session.to_der().expect("a session"));
            });
        });
        Self { connector, sessions }
    }

    /// Connects, and offers a session.
    fn connect(&self, port: u16, session: Option<&[u8]>) -> Result<Tls, String> {
        let configuration = self.connector.configure().expect("a connection's settings");
        let mut ssl = configuration.into_ssl("localhost").expect("a connection");
        if let Some(session) = session {
            let session = SslSession::from_der(session).expect("a session");
            // SAFETY: a session that was just read belongs to no context.
            unsafe { ssl.set_session(&session) }.expect("a session to offer");
        }
        let stream = peer::tcp(port).map_err(|error| error.to_string())?;
        let mut tls = SslStream::new(ssl, stream).expect("a stream");
        tls.connect().map_err(|error| error.to_string())?;
        Ok(tls)
    }

    /// Connects to a site; whether a session was resumed, as both sides say.
    fn visit(&self, site: &mut Site, session: Option<&[u8]>) -> bool {
        site.agent.send("c = assert(s:accept()) c:write('x') return c:info('reused')");
        let mut tls = self.connect(site.port, session).expect("a handshake");
        tls.read_exact(&mut [0]).expect("a byte, and what came before it");
        let reused = site.agent.answer();
        assert_eq!(reused, tls.ssl().session_reused().to_string());
        let _ = tls.shutdown();
        site.agent.run("c:close()");
        reused == "true"
    }

    /// A session by a full handshake.
    fn steal(&self, site: &mut Site) -> Vec<u8> {
        assert!(!self.visit(site, None));
        self.sessions.lock().expect("no panic").pop().expect("a session was given")
    }
}

/// A daemon with every grant on two control sockets, and what else a test needs.
fn daemon(more: &str) -> Daemon {
    Daemon::with_config(&configuration(more))
}

fn configuration(more: &str) -> String {
    format!(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[socket.tenant]\npath = 'DIR/tenant.sock'\n\
         [[grant]]\nuser = UID\nidentities = ['*']\n{more}"
    )
}

/// A daemon whose ticket keys follow from these bytes.
fn rooted(root: &[u8]) -> Daemon {
    let directory = scratch();
    std::fs::write(directory.path().join("root"), root).expect("a root");
    Daemon::with_config_in(&configuration("[tickets]\nroot = 'DIR/root'\n"), directory)
}

// -- where sessions are resumed --------------------------------------------------------------------------------------

#[test]
fn a_session_is_resumed_by_every_lua_process_of_an_owner() {
    let daemon = daemon("");
    for way in WAYS {
        let wrap = wrap(way, "server", "");
        let (mut one, mut other) = (Site::open(&daemon, &wrap), Site::open(&daemon, &wrap));
        let visitor = Visitor::new(None);
        let session = visitor.steal(&mut one);
        assert!(visitor.visit(&mut other, Some(&session)), "{way:?}: another process");
        assert!(visitor.visit(&mut one, Some(&session)), "{way:?}: the same process");
    }
}

#[test]
fn tickets_outlive_the_front() {
    let daemon = daemon("");
    for version in VERSIONS {
        let mut site = Site::open(&daemon, &wrap((version, Means::Ticket), "server", ""));
        let visitor = Visitor::new(None);
        let session = visitor.steal(&mut site);
        daemon.kill_front();
        let mut site = Site::open(&daemon, &wrap((version, Means::Ticket), "server", ""));
        assert!(visitor.visit(&mut site, Some(&session)), "{version}");
    }
}

#[test]
fn tickets_outlive_the_keeper_where_it_has_a_root() {
    for (daemon, resumed) in [(rooted(&[7; 48]), true), (daemon(""), false)] {
        for version in VERSIONS {
            let mut site = Site::open(&daemon, &wrap((version, Means::Ticket), "server", ""));
            let visitor = Visitor::new(None);
            let session = visitor.steal(&mut site);
            daemon.kill_keeper();
            // A full handshake needs the new keeper; the front hears of its ticket keys on another connection.
            visitor.steal(&mut site);
            let as_expected = || visitor.visit(&mut site, Some(&session)) == resumed;
            until("the new keeper's ticket keys", as_expected);
        }
    }
}

#[test]
fn machines_that_share_the_root_resume_each_others_sessions() {
    let (one, same, other) = (rooted(&[7; 48]), rooted(&[7; 48]), rooted(&[8; 48]));
    for version in VERSIONS {
        let wrap = wrap((version, Means::Ticket), "server", "");
        let visitor = Visitor::new(None);
        let session = visitor.steal(&mut Site::open(&one, &wrap));
        assert!(!visitor.visit(&mut Site::open(&other, &wrap), Some(&session)), "{version}: another root");
        assert!(visitor.visit(&mut Site::open(&same, &wrap), Some(&session)), "{version}");
    }
}

#[test]
fn tickets_are_renewed_from_epoch_to_epoch() {
    let daemon = daemon("[tickets]\nepoch = 2\n");
    let mut site = Site::open(&daemon, &wrap(("TLSv1.3", Means::Ticket), "server", ""));
    let visitor = Visitor::new(None);
    let first = visitor.steal(&mut site);
    // Two epochs on, the key of the first session is gone, and there is another to seal with.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(!visitor.visit(&mut site, Some(&first)));
    // Within one epoch a session is good. A machine that is busy for longer than that has to try again.
    luassl_tests::until("a session to be resumed at once", || {
        let session = visitor.steal(&mut site);
        visitor.visit(&mut site, Some(&session))
    });
}

#[test]
fn sessions_are_not_resumed_where_that_is_switched_off() {
    let with = daemon("");
    let without = daemon("[tickets]\nlifetime = 0\n");
    for (daemon, options) in [(&with, "resumption = false"), (&without, "")] {
        for way in WAYS {
            let mut site = Site::open(daemon, &wrap(way, "server", options));
            let visitor = Visitor::new(None);
            assert!(!visitor.visit(&mut site, None));
            let session = visitor.sessions.lock().expect("no panic").pop();
            // TLS 1.2 has an id in any case.
            assert!(session.is_none() || way.0 == "TLSv1.2", "{way:?}");
            assert!(!visitor.visit(&mut site, session.as_deref()), "{way:?}");
        }
    }
}

#[test]
fn a_root_that_cannot_be_used_is_told_and_everything_else_serves() {
    let (missing, short) = (daemon("[tickets]\nroot = 'DIR/none'\n"), rooted(&[7; 31]));
    missing.expect_log("[tickets]: root ");
    short.expect_log("[tickets]: the root cannot be used: it has fewer than 32 bytes");
    for daemon in [missing, short] {
        let mut site = Site::open(&daemon, &wrap(("TLSv1.3", Means::Ticket), "server", ""));
        let visitor = Visitor::new(None);
        let session = visitor.steal(&mut site);
        assert!(visitor.visit(&mut site, Some(&session)));
    }
}

// -- clients ---------------------------------------------------------------------------------------------------------

/// Connects from Lua to a server of the test's own; whether the session was resumed, as both sides say.
fn lua_visits(agent: &mut Agent, server: &Server) -> bool {
    let port = server.port();
    agent.send(&format!(
        "c = w:new() assert(c:connect('localhost', {port})) return c:read(1), c:info('reused')"
    ));
    let mut tls = server.accept().expect("a handshake");
    tls.write_all(b"x").expect("a byte, and the tickets before it");
    let reused = agent.answer();
    assert_eq!(reused, format!("\"x\", {}", tls.ssl().session_reused()));
    agent.run("c:close()");
    tls.ssl().session_reused()
}

#[test]
fn a_lua_client_resumes_of_itself_and_so_does_another_process_of_its_owner() {
    let daemon = daemon("");
    for version in VERSIONS {
        let server = Server::start("server", |builder| {
            peer::only(builder, version);
            builder.set_session_id_context(b"test").expect("a context's name");
        });
        let wrap = "w = assert(ssl.wrap{cafile = 'keys/rootcert.pem'})";
        let (mut one, mut other) = (Agent::start(&daemon, LUA54), Agent::start(&daemon, LUA54));
        one.run(wrap);
        other.run(wrap);
        assert!(!lua_visits(&mut one, &server), "{version}: the first time");
        assert!(lua_visits(&mut one, &server), "{version}: the second time");
        assert!(lua_visits(&mut other, &server), "{version}: another process");
        one.run("w = assert(ssl.wrap{cafile = 'keys/rootcert.pem', resumption = false})");
        assert!(!lua_visits(&mut one, &server), "{version}: switched off");
        one.run("w = assert(ssl.wrap{cafile = 'keys/rootcert.pem', depth = 3})");
        assert!(!lua_visits(&mut one, &server), "{version}: other settings");
    }
}

#[test]
fn resumption_takes_a_boolean() {
    let daemon = daemon("");
    let mut agent = Agent::start(&daemon, LUA54);
    let message = agent.error("ssl.wrap{resumption = 'no'}");
    assert!(message.contains("'resumption'") && message.contains("boolean"), "{message}");
}

// -- attack 17 -------------------------------------------------------------------------------------------------------

/// Steals a session from one site and offers it to another, which does a full handshake; the first would take it.
fn assert_apart(what: &str, visitor: &Visitor, one: &mut Site, other: &mut Site) {
    let session = visitor.steal(one);
    assert!(!visitor.visit(other, Some(&session)), "{what}");
    assert!(visitor.visit(one, Some(&session)), "{what}: the control");
}

#[test]
fn attack_17_a_session_without_a_client_certificate_is_none_where_one_is_demanded() {
    let daemon = daemon("");
    for way in WAYS {
        let mut open = Site::open(&daemon, &wrap(way, "server", ""));
        let mut closed = Site::open(&daemon, &wrap(way, "server", DEMAND));
        let nobody = Visitor::new(None);
        let session = nobody.steal(&mut open);
        closed.agent.send("c = assert(s:accept()) return c:info('reused'), c:info('verified')");
        // In TLS 1.3 a client learns that it was refused when it reads.
        let refused = nobody.connect(closed.port, Some(&session)).and_then(|mut tls| {
            tls.read(&mut [0]).map_err(|error| error.to_string()).and_then(|count| match count {
                0 => Err("closed".to_owned()),
                _ => Ok(()),
            })
        });
        assert!(refused.is_err(), "{way:?}: let in without a certificate");
        // It still waits for the first that is let in.
        let certified = Visitor::new(Some("client"));
        let tls = certified.connect(closed.port, Some(&session)).expect("a handshake");
        assert_eq!(closed.agent.answer(), "false, true", "{way:?}");
        assert!(!tls.ssl().session_reused(), "{way:?}");
        assert!(nobody.visit(&mut open, Some(&session)), "{way:?}: the control");
    }
}

#[test]
fn attack_17_another_verify_mode_is_a_full_handshake() {
    let daemon = daemon("");
    for way in WAYS {
        let asking = "verify = 'peer', cafile = 'keys/rootcert.pem'";
        let sites = |options| Site::open(&daemon, &wrap(way, "server", options));
        let visitor = Visitor::new(Some("client"));
        for (one, other) in [("", asking), (asking, DEMAND), (DEMAND, asking), (DEMAND, "")] {
            assert_apart(
                &format!("{way:?}: {one:?}, {other:?}"),
                &visitor,
                &mut sites(one),
                &mut sites(other),
            );
        }
    }
}

#[test]
fn attack_17_another_identity_is_a_full_handshake() {
    let daemon = daemon("");
    for way in WAYS {
        let site = |key| Site::open(&daemon, &wrap(way, key, ""));
        let visitor = Visitor::new(None);
        assert_apart(&format!("{way:?}"), &visitor, &mut site("server-rsa"), &mut site("server-p256"));
        assert_apart(&format!("{way:?}"), &visitor, &mut site("server-p256"), &mut site("server-rsa"));
    }
}

#[test]
fn attack_17_another_owner_is_a_full_handshake() {
    let daemon = daemon("");
    for way in WAYS {
        let wrap = wrap(way, "server", "");
        let visitor = Visitor::new(None);
        let mut general = Site::open(&daemon, &wrap);
        let mut tenant = Site::of_tenant(&daemon, &wrap);
        assert_apart(&format!("{way:?}"), &visitor, &mut general, &mut tenant);
        assert_apart(&format!("{way:?}"), &visitor, &mut tenant, &mut general);
    }
}

#[test]
fn attack_17_another_front_is_a_full_handshake_unless_they_share_a_domain() {
    let fronts = |domain: &str| {
        daemon(&format!("[front.default]\n{domain}[front.second]\nsockets = ['tenant']\n{domain}"))
    };
    // The owner is another one in any case; the keys are, too, and the keeper's own tests look at those alone.
    for daemon in [fronts(""), fronts("ticket_domain = 'both'\n")] {
        for version in VERSIONS {
            let wrap = wrap((version, Means::Ticket), "server", "");
            let (mut first, mut second) = (Site::open(&daemon, &wrap), Site::of_tenant(&daemon, &wrap));
            assert_apart(version, &Visitor::new(None), &mut first, &mut second);
        }
    }
}

/// Two stock servers that share a ticket key (or a cache), the second of which demands a certificate: OpenSSL as it is,
/// one context for both.
#[test]
fn attack_17_succeeds_against_stock_servers_that_share_a_ticket_key() {
    for (version, means) in WAYS {
        let visitor = Visitor::new(None);
        let context = stock(version, means);
        let session = {
            let (port, accepted) = stock_server(&context, SslVerifyMode::NONE);
            let mut tls = visitor.connect(port, None).expect("a handshake");
            tls.read_exact(&mut [0]).expect("a byte, and what came before it");
            let _ = tls.shutdown();
            accepted.join().expect("no panic");
            visitor.sessions.lock().expect("no panic").pop().expect("a session was given")
        };
        let (port, accepted) =
            stock_server(&context, SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        let mut tls = visitor
            .connect(port, Some(&session))
            .unwrap_or_else(|error| panic!("{version} {means:?}: not let in: {error}"));
        tls.read_exact(&mut [0]).expect("a byte");
        let _ = tls.shutdown();
        assert_eq!(accepted.join().expect("no panic"), (true, false), "{version} {means:?}");
    }
}

fn stock(version: &str, means: Means) -> SslContext {
    let mut builder = SslContextBuilder::new(SslMethod::tls_server()).expect("a context");
    let file = pki::file("keys/server.pem");
    builder.set_certificate_chain_file(&file).expect("a chain");
    builder.set_private_key_file(&file, SslFiletype::PEM).expect("a key");
    builder.set_session_id_context(b"stock").expect("a name");
    peer::only(&mut builder, version);
    if means == Means::Id {
        builder.set_options(SslOptions::NO_TICKET);
    }
    builder.build()
}

type Accepted = std::thread::JoinHandle<(bool, bool)>;

/// Serves one connection; gives its port, and whether it was resumed and has a client certificate.
fn stock_server(context: &SslContext, verify: SslVerifyMode) -> (u16, Accepted) {
    let mut ssl = Ssl::new(context).expect("a session");
    ssl.set_verify(verify);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let accepted = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(luassl_tests::PATIENCE)).expect("a bound");
        let mut tls = SslStream::new(ssl, stream).expect("a stream");
        tls.accept().expect("a handshake");
        tls.write_all(b"x").expect("a byte");
        let _ = tls.read(&mut [0]);
        // Without this OpenSSL forgets the session.
        let _ = tls.shutdown();
        (tls.ssl().session_reused(), tls.ssl().peer_certificate().is_some())
    });
    (port, accepted)
}
