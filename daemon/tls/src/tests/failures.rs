//! What goes wrong, in codes and words.

use crate::identity::{KeyId, PublicIdentity};
use crate::kit::pipe::{End, Session, pass, shake};
use crate::kit::pki::{Authority, Kind};
use crate::kit::world::{World, meet, of};
use crate::{Context, failure_of_io, handshake::failure::failure};
use luassl_protocol::{ContextSpec, ErrorCode, Failure, FailureReason, ProtocolVersion, Role};
use openssl::error::ErrorStack;
use openssl::ssl::{self, SslStream};
use std::io::{self, Write};
use std::sync::Arc;

fn world() -> World {
    World::with([Authority::root().identity("server", Kind::P256, &["server.test"])])
}

fn facing(context: &Context, role: Role, bytes: &[u8]) -> (Session, End) {
    let (near, mut far) = End::pair();
    far.write_all(bytes).unwrap();
    (SslStream::new(context.session(role, None, None).unwrap(), near).unwrap(), far)
}

fn shaken(session: &mut Session) -> Failure {
    let error = session.do_handshake().unwrap_err();
    let failure = failure(&error, session.ssl());
    assert!(ErrorStack::get().errors().is_empty());
    failure
}

#[test]
fn http_on_a_tls_port_is_recognized() {
    let world = world();
    let (mut session, _far) =
        facing(&world.context(&of("server")), Role::Server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let seen = shaken(&mut session);
    assert_eq!((seen.code, &*seen.message), (ErrorCode::Tls, "the peer speaks HTTP to a TLS port"));
}

#[test]
fn a_peer_that_speaks_no_tls_is_recognized() {
    let world = world();
    let client = world.context(&ContextSpec::default());
    let greeting = b"220 mail.example ESMTP ready\r\n";
    for (context, role) in [(&client, Role::Client), (&world.context(&of("server")), Role::Server)] {
        let (mut session, _far) = facing(context, role, greeting);
        let seen = shaken(&mut session);
        assert_eq!(seen.code, ErrorCode::Tls);
        assert!(seen.message.starts_with("the peer does not speak TLS"), "{seen}");
    }
}

#[test]
fn an_end_in_the_middle_of_a_handshake_is_a_cut() {
    let world = world();
    for (context, role) in
        [(world.context(&ContextSpec::default()), Role::Client), (world.context(&of("server")), Role::Server)]
    {
        let (mut session, far) = facing(&context, role, &[0x16, 0x03]);
        drop(far);
        let seen = shaken(&mut session);
        let wanted = "the peer closed the connection in the middle of the handshake";
        assert_eq!((seen.code, &*seen.message), (ErrorCode::Cut, wanted));
    }
}

#[test]
fn a_clean_close_and_a_cut_are_told_apart() {
    let world = world();
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let server = world.context(&ContextSpec { maximum_protocol: Some(version), ..of("server") });
        let client = world.context(&ContextSpec::default());
        for (clean, code) in [(true, ErrorCode::Closed), (false, ErrorCode::Cut)] {
            let (mut near, mut far) = meet(&server, &client, None).established();
            pass(&mut far, &mut near, b"last words");
            if clean {
                far.shutdown().unwrap();
            }
            drop(far);
            let error = near.ssl_read(&mut [0; 8]).unwrap_err();
            assert_eq!(failure(&error, near.ssl()).code, code);
        }
    }
}

#[test]
fn damaged_records_are_told() {
    let world = world();
    let (mut near, mut far) =
        meet(&world.context(&of("server")), &world.context(&ContextSpec::default()), None).established();
    far.get_mut().write_all(b"\x17\x03\x03\x00\x20................................").unwrap();
    let error = near.ssl_read(&mut [0; 8]).unwrap_err();
    let seen = failure(&error, near.ssl());
    assert_eq!(
        (seen.code, &*seen.message),
        (ErrorCode::Tls, "a record from the peer was damaged on its way")
    );
    let error = far.ssl_read(&mut [0; 8]).unwrap_err();
    assert!(failure(&error, far.ssl()).message.contains("bad record mac (20)"));
}

#[test]
fn a_keeper_that_is_gone_and_one_that_refuses_are_told_apart() {
    let world = World::with([Authority::root().identity("unavailable site", Kind::P256, &["gone.test"])]);
    let known = Authority::root().identity("site", Kind::P256, &["known.test"]);
    let PublicIdentity { name, public_key, chain, .. } = Arc::into_inner(known).unwrap();
    let unknown =
        PublicIdentity { name, generation: 1, key_id: KeyId([7; 32]), public_key, chain, staple: None };
    world.identities.put(Arc::new(unknown));
    for (identity, code, wanted) in [
        ("unavailable site", ErrorCode::Unavailable, "the keeper cannot be reached"),
        ("site", ErrorCode::Refused, "the keeper refused to sign: unknown key"),
    ] {
        for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
            let server = world.context(&ContextSpec { maximum_protocol: Some(version), ..of(identity) });
            let outcome = meet(&server, &world.context(&ContextSpec::default()), None);
            let seen = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
            assert_eq!(seen.code, code, "{seen}");
            assert!(seen.message.starts_with(wanted), "{seen}");
        }
    }
}

#[test]
fn a_client_that_distrusts_is_told_by_its_alert() {
    let world = World::with([Authority::new("unknown").identity("server", Kind::P256, &["server.test"])]);
    let outcome = meet(&world.context(&of("server")), &world.context(&ContextSpec::default()), None);
    let seen = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
    assert_eq!(seen.code, ErrorCode::Tls);
    assert_eq!(seen.reason, Some(FailureReason::Alert));
    assert!(seen.message.starts_with("the peer sent the alert unknown CA (48)"), "{seen}");
}

#[test]
fn a_server_without_an_identity_is_refused() {
    let context = world().context(&ContextSpec::default());
    let Err(refusal) = context.session(Role::Server, None, None) else { panic!("a server was made") };
    assert_eq!((refusal.code, refusal.message.contains("needs an identity")), (ErrorCode::Invalid, true));
}

#[test]
fn what_is_no_host_is_refused() {
    let context = world().context(&ContextSpec::default());
    for host in ["", "a b", "a\0b", ".example.org", "b\u{fc}cher.example"] {
        let Err(refusal) = context.session(Role::Client, Some(host), None) else { panic!("{host:?}") };
        assert_eq!(refusal.code, ErrorCode::Invalid);
        let Err(refusal) = context.session(Role::Client, None, Some(host)) else { panic!("{host:?}") };
        assert_eq!(refusal.code, ErrorCode::Invalid);
    }
}

#[test]
fn errors_of_the_transport_are_cuts_and_timeouts() {
    let world = world();
    let (near, _) =
        meet(&world.context(&of("server")), &world.context(&ContextSpec::default()), None).established();
    for (kind, code) in [
        (io::ErrorKind::ConnectionReset, ErrorCode::Cut),
        (io::ErrorKind::BrokenPipe, ErrorCode::Cut),
        (io::ErrorKind::UnexpectedEof, ErrorCode::Cut),
        (io::ErrorKind::TimedOut, ErrorCode::Timeout),
    ] {
        assert_eq!(failure_of_io(&kind.into(), near.ssl()).code, code, "{kind}");
    }
    let wrapped = io::Error::other(ssl::Error::from(ErrorStack::get()));
    assert_eq!(failure_of_io(&wrapped, near.ssl()).code, ErrorCode::Tls);
}

#[test]
fn messages_of_hostile_certificates_are_bounded() {
    let names: Vec<String> = (0..50).map(|at| format!("{}{at}.test", "n".repeat(50))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let key = Kind::P256.generate();
    let wanted = crate::kit::pki::Wanted { subject: "many", names: &names, days: (-1, 9), authority: false };
    let leaf = Authority::root().issue(&wanted, &key);
    let world = World::with([crate::kit::pki::declare("many", key, vec![leaf])]);
    let outcome =
        meet(&world.context(&of("many")), &world.context(&ContextSpec::default()), Some("other.test"));
    let seen = failure(&outcome.client_error.unwrap(), outcome.client.ssl());
    assert!(seen.message.len() < 1024 && seen.message.contains("and others"), "{seen}");
}

#[test]
fn a_handshake_leaves_no_error_behind_whatever_its_end() {
    let world = world();
    let server = world.context(&of("server"));
    let client = world.context(&ContextSpec::default());
    for host in [Some("server.test"), Some("other.test"), None] {
        let near = server.session(Role::Server, None, None).unwrap();
        drop(shake(near, client.session(Role::Client, host, None).unwrap()));
        assert!(ErrorStack::get().errors().is_empty(), "{host:?}");
    }
}
