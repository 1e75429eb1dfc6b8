//! Renegotiation, key updates and authentication after the handshake; threads that may not sign.

use crate::kit::pipe::{End, Session, pass};
use crate::kit::pki::{Authority, Kind};
use crate::kit::world::{World, meet, of};
use crate::{
    Exclusive, Renewal, handshake::failure::failure, may_sign, peer_certificate, renegotiate,
    report::summary::summary, request_client_certificate,
};
use luassl_protocol::{
    ContextSpec, DhSpec, ErrorCode, ProtocolVersion, Role, VERIFY_PEER, VERIFY_POST_HANDSHAKE, option_sum,
};
use openssl::error::ErrorStack;
use openssl::ssl::{self, SslStream};

const WANT_X509_LOOKUP: i32 = 4;

fn world() -> World {
    World::with([
        Authority::root().identity("server", Kind::P256, &["server.test"]),
        Authority::root().identity("client", Kind::P256, &["client.test"]),
    ])
}

fn tls12(spec: ContextSpec) -> ContextSpec {
    ContextSpec { maximum_protocol: Some(ProtocolVersion::Tls12), ..spec }
}

/// Lets both sides work on what they have got, and returns the first error.
fn settle(one: &mut Session, other: &mut Session) -> Option<(ssl::Error, bool)> {
    for _ in 0..10 {
        for (is_one, session) in [(true, &mut *one), (false, &mut *other)] {
            let work = if session.ssl().is_init_finished() {
                session.ssl_read(&mut [0; 64]).map(|_| ())
            } else {
                session.do_handshake()
            };
            if let Err(error) = work
                && error.code() != ssl::ErrorCode::WANT_READ
            {
                return Some((error, is_one));
            }
        }
    }
    None
}

#[test]
fn a_server_renegotiates_tls_1_2() {
    let world = world();
    let server = world.context(&tls12(ContextSpec { verify: Some(VERIFY_PEER), ..of("server") }));
    let client = world.context(&ContextSpec { options: renegotiable(), ..of("client") });
    let (mut server, mut client) = meet(&server, &client, None).established();
    let before = finished(&client);
    renegotiate(Exclusive::of(&mut server, Session::ssl)).unwrap();
    assert!(settle(&mut server, &mut client).is_none());
    assert_ne!(finished(&client), before);
    pass(&mut client, &mut server, b"after");
    pass(&mut server, &mut client, b"after");
    assert!(ErrorStack::get().errors().is_empty());
}

/// Options of a context whose peers may ask for a renegotiation.
fn renegotiable() -> Option<u64> {
    Some(option_sum(["OP_ALLOW_CLIENT_RENEGOTIATION"]).unwrap())
}

#[test]
fn finding_8_a_client_refuses_a_servers_renegotiation_unless_its_program_asks_for_it() {
    let world = world();
    let server = world.context(&tls12(of("server")));
    for options in [None, renegotiable()] {
        let client = world.context(&ContextSpec { options, ..ContextSpec::default() });
        let (mut server, mut client) = meet(&server, &client, None).established();
        let before = finished(&client);
        renegotiate(Exclusive::of(&mut server, Session::ssl)).unwrap();
        let end = settle(&mut server, &mut client);
        assert_eq!(finished(&client) == before, options.is_none());
        assert_eq!(end.is_some(), options.is_none());
        if let Some((error, at_server)) = end {
            assert!(at_server, "the server is told, and the client goes on");
            assert_eq!(failure(&error, server.ssl()).message, "the peer refuses to renegotiate");
        }
    }
}

#[test]
fn finding_8_a_program_that_refuses_renegotiation_has_none_of_its_own() {
    let world = world();
    for (refuses, fails) in [(true, true), (false, false)] {
        let options = refuses.then(|| option_sum(["OP_NO_RENEGOTIATION"]).unwrap());
        let client = world.context(&ContextSpec { options, ..ContextSpec::default() });
        let (_server, mut client) = meet(&world.context(&tls12(of("server"))), &client, None).established();
        assert_eq!(renegotiate(Exclusive::of(&mut client, Session::ssl)).is_err(), fails);
    }
}

/// Has `one` do `ask` again and again, until the session of `other` fails: how often it went well, and how it failed.
fn until_refused(
    (one, other): (&mut Session, &mut Session),
    mut ask: impl FnMut(&mut Session),
) -> (usize, String) {
    for went_well in 0..1000 {
        ask(one);
        if let Some((error, at_one)) = settle(one, other) {
            assert!(!at_one, "{}", failure(&error, one.ssl()));
            return (went_well, failure(&error, other.ssl()).message);
        }
    }
    panic!("no bound")
}

#[test]
fn finding_8_a_server_renegotiates_four_times_and_no_more() {
    let world = world();
    let client = world.context(&ContextSpec { options: renegotiable(), ..ContextSpec::default() });
    let (mut server, mut client) = meet(&world.context(&tls12(of("server"))), &client, None).established();
    let ask = |server: &mut Session| {
        assert_eq!(renegotiate(Exclusive::of(server, Session::ssl)).unwrap(), Renewal::Handshake)
    };
    let (went_well, why) = until_refused((&mut server, &mut client), ask);
    assert_eq!((went_well, &*why), (4, "the peer asks for one renegotiation after another"));
}

#[test]
fn finding_8_a_client_renegotiates_four_times_and_no_more_where_a_server_allows_it() {
    let world = world();
    let server = world.context(&tls12(ContextSpec { options: renegotiable(), ..of("server") }));
    let (mut server, mut client) = meet(&server, &world.context(&ContextSpec::default()), None).established();
    let ask = |client: &mut Session| {
        assert_eq!(renegotiate(Exclusive::of(client, Session::ssl)).unwrap(), Renewal::Handshake)
    };
    let (went_well, why) = until_refused((&mut client, &mut server), ask);
    assert_eq!((went_well, &*why), (4, "the peer asks for one renegotiation after another"));
}

#[test]
fn finding_8_a_server_asks_for_four_certificates_and_no_more() {
    let world = world();
    let verify = Some(VERIFY_PEER + VERIFY_POST_HANDSHAKE);
    let server = world.context(&ContextSpec { verify, ..of("server") });
    let (mut server, mut client) = meet(&server, &world.context(&of("client")), None).established();
    let ask = |server: &mut Session| assert!(request_client_certificate(Exclusive::of(server, Session::ssl)));
    let (went_well, why) = until_refused((&mut server, &mut client), ask);
    assert_eq!((went_well, &*why), (4, "the peer asks for one certificate after another"));
}

#[test]
fn finding_8_a_flood_of_key_updates_ends_the_session_in_the_middle_of_one_read() {
    let world = world();
    let (mut server, mut client) =
        meet(&world.context(&of("server")), &world.context(&ContextSpec::default()), None).established();
    let mut update = |count: usize| {
        for _ in 0..count {
            renegotiate(Exclusive::of(&mut server, Session::ssl)).unwrap();
            server.do_handshake().unwrap();
        }
    };
    // Positive control: as many as are taken, and a session that goes on.
    update(32);
    assert_eq!(client.ssl_read(&mut [0; 8]).unwrap_err().code(), ssl::ErrorCode::WANT_READ);
    assert!(crate::excess(client.ssl()).is_none());
    update(1000);
    assert!(client.ssl_read(&mut [0; 8]).is_err());
    let why = crate::excess(client.ssl()).unwrap();
    assert!(why.message.contains("key update"), "{why}");
}

#[test]
fn finding_8_a_servers_prime_has_2048_to_4096_bits() {
    let world = World::with([Authority::root().identity("server", Kind::Rsa, &["server.test"])]);
    let client = world.context(&tls12(ContextSpec {
        ciphers: Some("DHE-RSA-AES256-GCM-SHA384".to_owned()),
        ..ContextSpec::default()
    }));
    for (group, taken) in
        [("ffdhe2048", true), ("ffdhe4096", true), ("ffdhe6144", false), ("ffdhe8192", false)]
    {
        let dh = Some(DhSpec::Named(group.to_owned()));
        let server = world.context(&ContextSpec { dh, ..of("server") });
        let outcome = meet(&server, &client, None);
        assert_eq!(outcome.client_error.is_none(), taken, "{group}");
        if let Some(error) = &outcome.client_error {
            let why = failure(error, outcome.client.ssl());
            assert!(why.message.contains("2048 to 4096 are taken"), "{why}");
        }
    }
}

fn finished(session: &Session) -> Vec<u8> {
    let mut bytes = [0; 64];
    let length = session.ssl().finished(&mut bytes);
    bytes[..length].to_vec()
}

#[test]
fn a_client_renegotiates_where_the_server_allows_it_and_is_refused_where_not() {
    let world = world();
    for allowed in [true, false] {
        let options = allowed.then(|| option_sum(["OP_ALLOW_CLIENT_RENEGOTIATION"]).unwrap());
        let server = world.context(&tls12(ContextSpec { options, ..of("server") }));
        let (mut server, mut client) =
            meet(&server, &world.context(&ContextSpec::default()), None).established();
        renegotiate(Exclusive::of(&mut client, Session::ssl)).unwrap();
        let end = settle(&mut client, &mut server);
        assert_eq!(end.is_none(), allowed);
        if let Some((error, at_client)) = end {
            let session = if at_client { &client } else { &server };
            assert_eq!(failure(&error, session.ssl()).code, ErrorCode::Tls);
        }
    }
}

#[test]
fn keys_are_updated_in_tls_1_3() {
    let world = world();
    let (mut server, mut client) =
        meet(&world.context(&of("server")), &world.context(&ContextSpec::default()), None).established();
    for _ in 0..3 {
        assert_eq!(renegotiate(Exclusive::of(&mut client, Session::ssl)).unwrap(), Renewal::KeyUpdate);
        pass(&mut client, &mut server, b"under new keys");
        assert_eq!(renegotiate(Exclusive::of(&mut server, Session::ssl)).unwrap(), Renewal::KeyUpdate);
        pass(&mut server, &mut client, b"under new keys");
    }
}

#[test]
fn a_client_with_an_identity_authenticates_after_the_handshake() {
    let world = world();
    let verify = Some(VERIFY_PEER + VERIFY_POST_HANDSHAKE);
    let server = world.context(&ContextSpec { verify, ..of("server") });
    let (mut near, mut far) = meet(&server, &world.context(&of("client")), None).established();
    assert!(!summary(near.ssl()).peer_certificate);
    assert!(request_client_certificate(Exclusive::of(&mut near, Session::ssl)));
    assert!(settle(&mut near, &mut far).is_none());
    assert_eq!(peer_certificate(near.ssl()).names, ["client.test"]);

    let (mut near, _) = meet(&server, &world.context(&ContextSpec::default()), None).established();
    assert!(
        !request_client_certificate(Exclusive::of(&mut near, Session::ssl)),
        "the client did not offer it"
    );
    assert!(ErrorStack::get().errors().is_empty());
}

#[test]
fn a_thread_that_may_not_sign_suspends_and_another_resumes() {
    let world = world();
    let verify = Some(VERIFY_PEER + VERIFY_POST_HANDSHAKE);
    let server = world.context(&ContextSpec { verify, ..of("server") });
    let (mut near, mut far) = meet(&server, &world.context(&of("client")), None).established();
    assert!(request_client_certificate(Exclusive::of(&mut near, Session::ssl)));
    near.do_handshake().unwrap();
    may_sign(false);
    let suspended = far.ssl_read(&mut [0; 8]).unwrap_err();
    assert_eq!(suspended.code().as_raw(), WANT_X509_LOOKUP);
    assert_eq!(far.ssl_read(&mut [0; 8]).unwrap_err().code().as_raw(), WANT_X509_LOOKUP);
    may_sign(true);
    assert!(settle(&mut far, &mut near).is_none());
    assert_eq!(peer_certificate(near.ssl()).names, ["client.test"]);
}

#[test]
fn a_handshake_on_a_thread_that_may_not_sign_is_suspended() {
    let world = world();
    let server = world.context(&of("server")).session(Role::Server, None, None).unwrap();
    let client = world.context(&ContextSpec::default()).session(Role::Client, None, None).unwrap();
    may_sign(false);
    let (near, far) = End::pair();
    let mut client = SslStream::new(client, far).unwrap();
    let mut server = SslStream::new(server, near).unwrap();
    let _ = client.do_handshake();
    let error = server.do_handshake().unwrap_err();
    assert_eq!(error.code().as_raw(), WANT_X509_LOOKUP);
}
