//! Which sessions are resumed, and that none is outside the settings that it was made under.

use crate::ffi::resumption_ffi::{Decider, set_ticket_appdata, ticket_appdata};
use crate::kit::pipe::{Outcome, pass, shake};
use crate::kit::pki::{Authority, Kind, Wanted, declare};
use crate::kit::world::{FREE, LIFETIME, World, of};
use crate::resumption::OfSessions;
use crate::{Context, report::summary::summary};
use luassl_protocol::{
    ContextSpec, ProtocolVersion, Role, SniEntry, TrustSpec, VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_NONE,
    VERIFY_PEER, option_sum,
};
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    ShutdownState, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSession,
    SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;

const DEMAND: u64 = VERIFY_PEER + VERIFY_FAIL_IF_NO_PEER_CERT;

/// How a session is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Ticket,
    Id,
}

const WAYS: [(ProtocolVersion, Means); 4] = [
    (ProtocolVersion::Tls12, Means::Ticket),
    (ProtocolVersion::Tls12, Means::Id),
    (ProtocolVersion::Tls13, Means::Ticket),
    (ProtocolVersion::Tls13, Means::Id),
];

fn by((version, means): (ProtocolVersion, Means), spec: ContextSpec) -> ContextSpec {
    let options = (means == Means::Id).then(|| option_sum(["OP_NO_TICKET"]).unwrap());
    ContextSpec { maximum_protocol: Some(version), options, ..spec }
}

/// A client that is no luassl, and does what no honest one does: it offers any session to any server.
struct Thief {
    context: SslContext,
    /// What it was given, ready to be used again.
    sessions: Arc<Mutex<Vec<Vec<u8>>>>,
    sni: Option<&'static str>,
}

impl Thief {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(certificate: Option<(&X509, &PKey<Private>)>) -> Self {
        let sessions = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let mut builder = SslContextBuilder::new(SslMethod::tls_client()).unwrap();
        if let Some((certificate, key)) = certificate {
            builder.set_certificate(certificate).unwrap();
            builder.set_private_key(key).unwrap();
        }
        builder.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        let taken = Arc::clone(&sessions);
        builder.set_new_session_callback(move |_, session| {
            taken.lock().push(session.to_der().unwrap());
        });
        Self { context: builder.build(), sessions, sni: None }
    }

    /// Connects, with a session that it has; gives what came of it.
    #[allow(unsafe_code)]
    fn connect(&self, server: Ssl, session: Option<&[u8]>) -> Outcome {
        let mut client = Ssl::new(&self.context).unwrap();
        if let Some(name) = self.sni {
            client.set_hostname(name).unwrap();
        }
        if let Some(session) = session {
            let session = SslSession::from_der(session).unwrap();
            // SAFETY: a session that was just read belongs to no context.
            unsafe { client.set_session(&session) }.unwrap();
        }
        shake(server, client)
    }

    /// A session by a full handshake.
    fn steal(&self, server: Ssl) -> Vec<u8> {
        let (mut server, mut client) = self.connect(server, None).established();
        pass(&mut server, &mut client, b"after any ticket");
        self.sessions.lock().pop().expect("a session was given")
    }
}

fn serve(context: &Context) -> Ssl {
    context.renew();
    context.session(Role::Server, None, None).unwrap()
}

/// Whether the server takes the session up.
fn is_resumed(thief: &Thief, server: Ssl, session: &[u8]) -> bool {
    let (mut server, mut client) = thief.connect(server, Some(session)).established();
    pass(&mut server, &mut client, b"ping");
    assert_eq!(summary(server.ssl()).reused, summary(client.ssl()).reused);
    summary(server.ssl()).reused
}

fn world() -> World {
    let root = Authority::root();
    World::with([
        root.identity("server", Kind::P256, &["server.test", "www.server.test"]),
        root.identity("other", Kind::P256, &["other.test"]),
    ])
}

// -- what is resumed ---------------------------------------------------------------------------------------------

#[test]
fn a_session_is_resumed_in_every_way_and_again_and_again() {
    let world = world();
    for way in WAYS {
        let (server, thief) = (world.context(&by(way, of("server"))), Thief::new());
        let mut session = thief.steal(serve(&server));
        for _ in 0..5 {
            assert!(is_resumed(&thief, serve(&server), &session), "{way:?}");
            if let Some(next) = thief.sessions.lock().pop() {
                session = next;
            }
        }
    }
}

#[test]
fn a_context_that_is_built_anew_and_another_of_the_same_settings_lose_no_session() {
    let world = world();
    for way in WAYS {
        let thief = Thief::new();
        let server = world.context(&by(way, of("server")));
        let session = thief.steal(serve(&server));
        // Nothing that this context uses.
        world.identities.put(Authority::root().identity("third", Kind::P256, &["third.test"]));
        world.trust("third", &Authority::root().pem(), &[]);
        assert!(is_resumed(&thief, serve(&server), &session), "{way:?}");
        let session = thief.steal(serve(&server));
        let same = world.context(&by(way, of("server")));
        assert!(is_resumed(&thief, serve(&same), &session), "{way:?}");
    }
}

#[test]
fn tickets_outlive_the_front_and_sessions_with_an_id_do_not() {
    for way in WAYS {
        let (thief, before, after) = (Thief::new(), world(), world());
        let identity = crate::identity::IdentitySource::current(&*before.identities, "server").unwrap();
        after.identities.put(identity);
        let session = thief.steal(serve(&before.context(&by(way, of("server")))));
        let recreated = is_resumed(&thief, serve(&after.context(&by(way, of("server")))), &session);
        assert_eq!(recreated, way.1 == Means::Ticket, "{way:?}");
    }
}

#[test]
fn a_ticket_of_the_epoch_before_is_taken_and_replaced_and_an_older_one_is_not_taken() {
    let world = world();
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        world.ticket_keys([1, 2, 3]);
        let (server, thief) = (world.context(&by((version, Means::Ticket), of("server"))), Thief::new());
        let old = thief.steal(serve(&server));
        thief.sessions.lock().clear();
        world.ticket_keys([2, 3, 4]);
        assert!(is_resumed(&thief, serve(&server), &old));
        // TLS 1.2 replaces it within the handshake, and OpenSSL's callback for new sessions is not told.
        let new = thief.sessions.lock().pop();
        assert_eq!(new.is_some(), version == ProtocolVersion::Tls13);
        world.ticket_keys([3, 4, 5]);
        assert!(!is_resumed(&thief, serve(&server), &old), "{version:?}");
        if let Some(new) = new {
            assert!(is_resumed(&thief, serve(&server), &new));
        }
    }
}

#[test]
fn without_ticket_keys_sessions_have_ids() {
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let mut world = world();
        world.resumption = Arc::new(crate::Resumption::new(Arc::default()));
        world.resumption.configure(LIFETIME, 10, 10);
        let (server, thief) = (world.context(&by((version, Means::Ticket), of("server"))), Thief::new());
        let session = thief.steal(serve(&server));
        assert!(is_resumed(&thief, serve(&server), &session), "{version:?}");
    }
}

#[test]
fn what_a_resumed_session_proved_is_still_known() {
    let world = world();
    let (key, leaf) = client_certificate();
    for way in WAYS {
        let spec = ContextSpec { verify: Some(DEMAND), ..of("server") };
        let (server, thief) = (world.context(&by(way, spec)), Thief::with(Some((&leaf, &key))));
        let session = thief.steal(serve(&server));
        let (server, _) = thief.connect(serve(&server), Some(&session)).established();
        assert!(summary(server.ssl()).reused && summary(server.ssl()).peer_certificate, "{way:?}");
        assert_eq!(summary(server.ssl()).verify_code, 0);
        assert_eq!(crate::peer_certificate(server.ssl()).names, ["client.test"]);
    }
}

#[test]
fn nothing_is_resumed_where_it_is_switched_off() {
    for (off, lifetime) in [(true, LIFETIME), (false, 0)] {
        let world = world();
        world.resumption.configure(lifetime, 100, 100);
        for way in WAYS {
            let server = world.context(&by(way, ContextSpec { no_resumption: off, ..of("server") }));
            let thief = Thief::new();
            let (mut server_end, mut client) = thief.connect(serve(&server), None).established();
            pass(&mut server_end, &mut client, b"after any ticket");
            // TLS 1.2 gives an id nevertheless, which the server then does not know.
            let given = thief.sessions.lock().pop();
            assert!(given.is_none() || way.0 == ProtocolVersion::Tls12, "{way:?}");
            if let Some(session) = given {
                assert!(!is_resumed(&thief, serve(&server), &session), "{way:?}");
            }
        }
    }
}

#[test]
fn a_session_that_failed_is_forgotten() {
    let world = world();
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let (server, thief) = (world.context(&by((version, Means::Id), of("server"))), Thief::new());
        let session = thief.steal(serve(&server));
        assert!(is_resumed(&thief, serve(&server), &session));
        let (mut near, mut far) = thief.connect(serve(&server), Some(&session)).established();
        assert!(summary(near.ssl()).reused);
        // No record begins so: the server sends a fatal alert.
        std::io::Write::write_all(far.get_mut(), &[0x17, 3, 3, 0, 32]).unwrap();
        std::io::Write::write_all(far.get_mut(), &[0; 32]).unwrap();
        near.ssl_read(&mut [0; 16]).unwrap_err();
        if version == ProtocolVersion::Tls12 {
            assert!(!is_resumed(&thief, serve(&server), &session));
        }
    }
}

#[test]
fn an_end_without_a_close_message_costs_no_session() {
    let world = world();
    for way in WAYS {
        let (server, thief) = (world.context(&by(way, of("server"))), Thief::new());
        let session = thief.steal(serve(&server));
        drop(thief.connect(serve(&server), Some(&session)));
        let session = thief.sessions.lock().pop().unwrap_or(session);
        assert!(is_resumed(&thief, serve(&server), &session), "{way:?}");
    }
}

#[test]
fn the_lifetime_counts_from_the_full_handshake() {
    let world = world();
    let server = world.context(&by((ProtocolVersion::Tls13, Means::Ticket), of("server")));
    let (server, _) = Thief::new().connect(serve(&server), None).established();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let session = server.ssl().session().unwrap().to_owned();
    assert!(OfSessions::is_fresh(&session));
    for (age, fresh) in [(u64::from(LIFETIME) - 60, true), (u64::from(LIFETIME), false)] {
        assert!(set_ticket_appdata(&session, (now - age).to_be_bytes()));
        assert_eq!(OfSessions::is_fresh(&session), fresh, "{age}");
    }
}

#[test]
fn sessions_of_sessions_keep_the_time_of_the_full_handshake() {
    let world = world();
    for means in [Means::Ticket, Means::Id] {
        let server = world.context(&by((ProtocolVersion::Tls13, means), of("server")));
        let thief = Thief::new();
        let session = thief.steal(serve(&server));
        let origin = |session: &[u8]| {
            let (server, _) = thief.connect(serve(&server), Some(session)).established();
            assert!(summary(server.ssl()).reused);
            let session = server.ssl().session().unwrap();
            (ticket_appdata(session).map(u64::from_be_bytes).unwrap(), session.time())
        };
        let (first, made) = origin(&session);
        // The clock has to move on for the two to differ; how far is of no matter.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        let next = thief.sessions.lock().pop().unwrap();
        let (second, made_later) = origin(&next);
        assert_eq!(first, second, "{means:?}");
        assert!(made_later > made, "{means:?}");
    }
}

// -- attack 17 ---------------------------------------------------------------------------------------------------

fn client_certificate() -> (PKey<Private>, X509) {
    let key = Kind::P256.generate();
    let leaf = Authority::root().issue(&Wanted::leaf(&["client.test"]), &key);
    (key, leaf)
}

/// Steals a session from one server and offers it to another, which does a full handshake; the first one would take it.
fn assert_apart(way: (ProtocolVersion, Means), what: &str, thief: &Thief, one: &Context, other: &Context) {
    let session = thief.steal(serve(one));
    assert!(!is_resumed(thief, serve(other), &session), "{way:?}: {what}");
    assert!(is_resumed(thief, serve(one), &session), "{way:?}: {what}: the control");
}

#[test]
fn a_session_without_a_client_certificate_is_none_where_one_is_demanded() {
    let world = world();
    let (key, leaf) = client_certificate();
    for way in WAYS {
        let server = |verify| world.context(&by(way, ContextSpec { verify, ..of("server") }));
        let (open, closed) = (server(None), server(Some(DEMAND)));
        let nobody = Thief::new();
        let session = nobody.steal(serve(&open));
        let outcome = nobody.connect(serve(&closed), Some(&session));
        assert!(outcome.server_error.is_some(), "{way:?}: let in without a certificate");
        let certified = Thief::with(Some((&leaf, &key)));
        let (server_end, _) = certified.connect(serve(&closed), Some(&session)).established();
        assert!(!summary(server_end.ssl()).reused && summary(server_end.ssl()).peer_certificate, "{way:?}");
        assert!(is_resumed(&nobody, serve(&open), &session), "{way:?}: the control");
    }
}

#[test]
fn every_verify_mode_is_apart_from_every_other() {
    let world = world();
    let (key, leaf) = client_certificate();
    for way in WAYS {
        let modes = [None, Some(VERIFY_PEER), Some(DEMAND)];
        let server = |verify| world.context(&by(way, ContextSpec { verify, ..of("server") }));
        for one in modes {
            for other in modes.into_iter().filter(|other| *other != one) {
                let thief = Thief::with(Some((&leaf, &key)));
                let what = format!("{one:?} and {other:?}");
                assert_apart(way, &what, &thief, &server(one), &server(other));
            }
        }
    }
}

#[test]
fn another_identity_is_apart() {
    let world = world();
    for way in WAYS {
        let server = |name| world.context(&by(way, of(name)));
        assert_apart(way, "identity", &Thief::new(), &server("server"), &server("other"));
    }
}

#[test]
fn a_renewed_certificate_is_apart_from_the_former() {
    for way in WAYS {
        let (world, thief) = (world(), Thief::new());
        let server = world.context(&by(way, of("server")));
        let session = thief.steal(serve(&server));
        world.identities.put(Authority::root().identity("server", Kind::P256, &["server.test"]));
        assert!(!is_resumed(&thief, serve(&server), &session), "{way:?}");
    }
}

#[test]
fn another_owner_is_apart() {
    let world = world();
    for way in WAYS {
        let server = |owner| world.context_of(owner, &by(way, of("server")), FREE).unwrap();
        assert_apart(way, "owner", &Thief::new(), &server("1000 control"), &server("1001 control"));
        assert_apart(way, "socket", &Thief::new(), &server("1000 control"), &server("1000 tenant"));
    }
}

#[test]
fn another_trust_depth_or_expected_client_is_apart() {
    let world = world();
    world.trust("staff", &Authority::root().pem(), &[]);
    let (key, leaf) = client_certificate();
    for way in WAYS {
        let thief = Thief::with(Some((&leaf, &key)));
        let spec = |depth, trust: TrustSpec| {
            by(way, ContextSpec { verify: Some(DEMAND), depth, trust, ..of("server") })
        };
        let server = |depth, trust| world.context(&spec(depth, trust));
        let client_supplied = world.blob(&Authority::new("another root").pem());
        let both = TrustSpec { system: true, certificates: vec![client_supplied], ..TrustSpec::default() };
        let one = server(Some(3), TrustSpec::default());
        assert_apart(way, "depth", &thief, &one, &server(Some(2), TrustSpec::default()));
        assert_apart(way, "trust", &thief, &one, &server(Some(3), both));
        let session = thief.steal(serve(&one));
        let expecting = one.session(Role::Server, Some("client.test"), None).unwrap();
        assert!(!is_resumed(&thief, expecting, &session), "{way:?}: expected client");
    }
}

#[test]
fn a_trust_that_has_changed_is_asked_again() {
    let (key, leaf) = client_certificate();
    for way in WAYS {
        let world = world();
        world.trust("staff", &Authority::root().pem(), &[]);
        let trust = TrustSpec { named: vec!["staff".to_owned()], ..TrustSpec::default() };
        let server = world.context(&by(way, ContextSpec { verify: Some(DEMAND), trust, ..of("server") }));
        let thief = Thief::with(Some((&leaf, &key)));
        let session = thief.steal(serve(&server));
        assert!(is_resumed(&thief, serve(&server), &session), "{way:?}");
        let session = thief.sessions.lock().pop().unwrap_or(session);
        world.trust("staff", &Authority::root().pem(), &Authority::root().revoke(&[&leaf]));
        let outcome = thief.connect(serve(&server), Some(&session));
        assert!(outcome.server_error.is_some(), "{way:?}: a revoked client is let in");
    }
}

#[test]
fn sessions_belong_to_the_name_that_was_asked_for() {
    let world = world();
    for way in WAYS {
        let sni = vec![SniEntry { name: "other.test".to_owned(), identity: "other".to_owned() }];
        let server = world.context(&by(way, ContextSpec { sni, ..of("server") }));
        let mut thief = Thief { sni: Some("server.test"), ..Thief::new() };
        let session = thief.steal(serve(&server));
        for name in [Some("other.test"), Some("www.server.test"), None] {
            thief.sni = name;
            assert!(!is_resumed(&thief, serve(&server), &session), "{way:?}: {name:?}");
        }
        thief.sni = Some("SERVER.test");
        assert!(is_resumed(&thief, serve(&server), &session), "{way:?}: the control");
    }
}

#[test]
fn floors_of_a_grant_are_not_undercut_by_a_session() {
    let world = world();
    for way in WAYS {
        let rsa = crate::Floors { rsa_key_exchange: true, ..FREE };
        let server = |floors| world.context_of("owner", &by(way, of("server")), floors).unwrap();
        assert_apart(way, "rsa key exchange", &Thief::new(), &server(rsa), &server(FREE));
    }
}

/// The positive control of the attack: stock OpenSSL, with one ticket key (or one cache) for two settings.
#[test]
fn the_attack_succeeds_against_servers_that_share_a_ticket_key() {
    let key = Kind::P256.generate();
    let leaf = Authority::root().issue(&Wanted::leaf(&["stock.test"]), &key);
    for (version, means) in WAYS {
        let mut builder = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
        builder.set_certificate(&leaf).unwrap();
        builder.set_private_key(&key).unwrap();
        builder.set_session_id_context(b"stock").unwrap();
        if means == Means::Id {
            builder.set_options(SslOptions::NO_TICKET);
        }
        builder
            .set_max_proto_version(Some(match version {
                ProtocolVersion::Tls12 => SslVersion::TLS1_2,
                ProtocolVersion::Tls13 => SslVersion::TLS1_3,
            }))
            .unwrap();
        let context = builder.build();
        let thief = Thief::new();
        let (mut server, mut client) = thief.connect(Ssl::new(&context).unwrap(), None).established();
        pass(&mut server, &mut client, b"after any ticket");
        // Otherwise OpenSSL's own cache drops the session.
        server.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        drop(server);
        let session = thief.sessions.lock().pop().expect("a session was given");
        let mut closed = Ssl::new(&context).unwrap();
        closed.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        let (server, _) = thief.connect(closed, Some(&session)).established();
        assert!(server.ssl().session_reused() && server.ssl().peer_certificate().is_none());
    }
}

// -- clients -----------------------------------------------------------------------------------------------------

const PORT: &str = "192.0.2.1:443";

struct Visit<'a> {
    client: &'a Context,
    host: Option<&'a str>,
    peer: &'a str,
}

impl Visit<'_> {
    /// Whether the client resumed a session with the server.
    fn resumes(&self, server: &Context) -> bool {
        let peer: SocketAddr = self.peer.parse().unwrap();
        let client = self.client.session_with(self.host, None, peer).unwrap();
        let (mut server, mut client) = shake(serve(server), client).established();
        pass(&mut server, &mut client, b"after any ticket");
        assert_eq!(summary(client.ssl()).reused, summary(server.ssl()).reused);
        summary(client.ssl()).reused
    }
}

#[test]
fn clients_resume_of_themselves() {
    for way in WAYS {
        let world = world();
        let (server, client) =
            (world.context(&by(way, of("server"))), world.context(&ContextSpec::default()));
        let visit = Visit { client: &client, host: Some("server.test"), peer: PORT };
        let resumed: Vec<_> = (0..4).map(|_| visit.resumes(&server)).collect();
        assert_eq!(resumed, [false, true, true, true], "{way:?}");
        // Another context of the same settings, and a server with the same name on another address.
        let same = world.context(&ContextSpec::default());
        assert!(Visit { client: &same, peer: "192.0.2.2:443", ..visit }.resumes(&server), "{way:?}");
    }
}

#[test]
fn clients_offer_a_session_to_whom_it_was_made_with_alone() {
    let world = world();
    let server = world.context(&of("server"));
    let client = world.context(&ContextSpec::default());
    let visit = Visit { client: &client, host: Some("server.test"), peer: PORT };
    assert!(!visit.resumes(&server) && visit.resumes(&server));
    assert!(!Visit { host: Some("www.server.test"), ..visit }.resumes(&server), "another host");
    assert!(!Visit { peer: "192.0.2.1:444", ..visit }.resumes(&server), "another port");
    let unchecked = Visit { host: None, ..visit };
    assert!(!unchecked.resumes(&server) && unchecked.resumes(&server));
    assert!(!Visit { peer: "192.0.2.2:443", ..unchecked }.resumes(&server), "another address, unchecked");
    for (what, spec) in [
        ("verify", ContextSpec { verify: Some(VERIFY_NONE), ..ContextSpec::default() }),
        ("identity", of("other")),
        ("depth", ContextSpec { depth: Some(7), ..ContextSpec::default() }),
        ("no resumption", ContextSpec { no_resumption: true, ..ContextSpec::default() }),
    ] {
        let other = world.context(&spec);
        assert!(!Visit { client: &other, ..visit }.resumes(&server), "{what}");
    }
    let stranger = world.context_of("another", &ContextSpec::default(), FREE).unwrap();
    assert!(!Visit { client: &stranger, ..visit }.resumes(&server), "owner");
    assert!(visit.resumes(&server), "the control");
}

#[test]
fn a_client_that_switched_it_off_never_resumes() {
    let world = world();
    let server = world.context(&of("server"));
    let client = world.context(&ContextSpec { no_resumption: true, ..ContextSpec::default() });
    let visit = Visit { client: &client, host: Some("server.test"), peer: PORT };
    assert!((0..3).all(|_| !visit.resumes(&server)));
}

#[test]
fn a_server_whose_certificate_has_expired_meanwhile_proves_itself_again() {
    let key = Kind::P256.generate();
    for (days, resumed) in [((-2, -1), false), ((-2, 1), true)] {
        let wanted = Wanted { days, ..Wanted::leaf(&["server.test"]) };
        let leaf = Authority::root().issue(&wanted, &key);
        let world = World::with([declare("server", key.clone(), vec![leaf])]);
        let server = world.context(&of("server"));
        let client = world.context(&ContextSpec { verify: Some(VERIFY_NONE), ..ContextSpec::default() });
        let visit = Visit { client: &client, host: None, peer: PORT };
        assert!(!visit.resumes(&server));
        assert_eq!(visit.resumes(&server), resumed, "{days:?}");
    }
}

#[test]
fn a_client_forgets_sessions_after_a_fatal_alert() {
    let world = world();
    let server = world.context(&by((ProtocolVersion::Tls12, Means::Ticket), of("server")));
    let client = world.context(&ContextSpec::default());
    let visit = Visit { client: &client, host: Some("server.test"), peer: PORT };
    assert!(!visit.resumes(&server) && visit.resumes(&server));
    // A server that refuses what is offered.
    let nothing = world.context(&ContextSpec { sni_strict: true, ..of("other") });
    let session = client.session_with(visit.host, None, PORT.parse().unwrap()).unwrap();
    assert!(shake(serve(&nothing), session).client_error.is_some());
    assert!(!visit.resumes(&server));
}

#[test]
fn a_cache_without_room_keeps_nothing() {
    let world = world();
    world.resumption.configure(LIFETIME, 0, 0);
    let (server, client) = (world.context(&of("server")), world.context(&ContextSpec::default()));
    let visit = Visit { client: &client, host: Some("server.test"), peer: PORT };
    assert!((0..3).all(|_| !visit.resumes(&server)));
    let by_id = world.context(&by((ProtocolVersion::Tls13, Means::Id), of("server")));
    let thief = Thief::new();
    let session = thief.steal(serve(&by_id));
    assert!(!is_resumed(&thief, serve(&by_id), &session));
}
