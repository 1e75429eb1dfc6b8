//! Renegotiation, key updates and authentication after the handshake; threads that may not sign.

use super::pipe::{End, Session, pass};
use super::pki::{Authority, Kind};
use super::world::{World, meet, of};
use crate::tls::{
    Renewal, failure, info, may_sign, peer_certificate, renegotiate, request_client_certificate,
};
use luassl_protocol::{
    ContextSpec, ErrorCode, ProtocolVersion, Role, VERIFY_PEER, VERIFY_POST_HANDSHAKE, option_sum,
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
    let client = world.context(&of("client"));
    let (mut server, mut client) = meet(&server, &client, None).established();
    let before = finished(&client);
    renegotiate(&mut server).unwrap();
    assert!(settle(&mut server, &mut client).is_none());
    assert_ne!(finished(&client), before);
    pass(&mut client, &mut server, b"after");
    pass(&mut server, &mut client, b"after");
    assert!(ErrorStack::get().errors().is_empty());
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
        renegotiate(&mut client).unwrap();
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
        assert_eq!(renegotiate(&mut client).unwrap(), Renewal::KeyUpdate);
        pass(&mut client, &mut server, b"under new keys");
        assert_eq!(renegotiate(&mut server).unwrap(), Renewal::KeyUpdate);
        pass(&mut server, &mut client, b"under new keys");
    }
}

#[test]
fn a_client_with_an_identity_authenticates_after_the_handshake() {
    let world = world();
    let verify = Some(VERIFY_PEER + VERIFY_POST_HANDSHAKE);
    let server = world.context(&ContextSpec { verify, ..of("server") });
    let (mut near, mut far) = meet(&server, &world.context(&of("client")), None).established();
    assert!(!info(near.ssl()).peer_certificate);
    assert!(request_client_certificate(&mut near));
    assert!(settle(&mut near, &mut far).is_none());
    assert_eq!(peer_certificate(near.ssl()).names, ["client.test"]);

    let (mut near, _) = meet(&server, &world.context(&ContextSpec::default()), None).established();
    assert!(!request_client_certificate(&mut near), "the client did not offer it");
    assert!(ErrorStack::get().errors().is_empty());
}

#[test]
fn a_thread_that_may_not_sign_suspends_and_another_resumes() {
    let world = world();
    let verify = Some(VERIFY_PEER + VERIFY_POST_HANDSHAKE);
    let server = world.context(&ContextSpec { verify, ..of("server") });
    let (mut near, mut far) = meet(&server, &world.context(&of("client")), None).established();
    assert!(request_client_certificate(&mut near));
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
