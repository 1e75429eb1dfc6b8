//! Certificates of peers and of programs that would cost much to parse, or much memory.

use crate::handshake::peer_bounds::ByCounts;
use crate::kit::pipe::{Outcome, Session, shake};
use crate::kit::pki::{Authority, Kind, Wanted};
use crate::kit::world::{World, of};
use crate::{
    check_issued,
    ffi::{message_ffi, safe_ffi},
    handshake::failure::failure,
    read_certificate, request_client_certificate,
};
use luassl_protocol::{
    CheckIssued, ContextSpec, ErrorCode, ProtocolVersion, ReadCertificate, Role, TrustSpec,
    VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, VERIFY_POST_HANDSHAKE,
};
use openssl::bn::BigNumContext;
use openssl::ec::{Asn1Flag, EcGroup, EcKey, PointConversionForm};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use serde_bytes::ByteBuf;

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::Tls12, ProtocolVersion::Tls13];

fn p256() -> EcGroup {
    EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()
}

/// A key whose curve is described in full.
fn explicit() -> PKey<Private> {
    let mut group = p256();
    group.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A key whose point is written with one coordinate.
fn compressed() -> PKey<Private> {
    let (group, mut numbers) = (p256(), BigNumContext::new().unwrap());
    let key = EcKey::generate(&group).unwrap();
    let form = PointConversionForm::COMPRESSED;
    let point = key.public_key().to_bytes(&group, form, &mut numbers).unwrap();
    let secret = key.private_key().to_vec_padded(32).unwrap();
    // RFC 5915: the version, the private half, the curve, the public half.
    let der = [
        &[0x30, 0x57, 0x02, 1, 1, 0x04, 32][..],
        &secret,
        b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\xa1\x24\x03\x22\0",
        &point,
    ]
    .concat();
    PKey::from_ec_key(EcKey::private_key_from_der(&der).unwrap()).unwrap()
}

fn certificate_of(key: &PKey<Private>) -> X509 {
    Authority::root().issue(&Wanted::leaf(&["other.test"]), key)
}

/// What a peer adds to its own certificate, and what the sentence about that has in it.
fn too_costly() -> [(Vec<X509>, &'static str); 3] {
    [
        (vec![certificate_of(&explicit())], "explicit parameters"),
        (vec![certificate_of(&compressed())], "uncompressed point"),
        (vec![certificate_of(&Kind::P256.generate()); 16], "more than 16 certificates"),
    ]
}

fn good() -> Vec<X509> {
    vec![certificate_of(&Kind::P256.generate()); 15]
}

/// A side of OpenSSL's own, which has a good certificate and sends others behind it.
fn peer(method: SslMethod, name: &str, others: &[X509], watched: bool) -> SslContext {
    let key = Kind::P256.generate();
    let mut builder = SslContextBuilder::new(method).unwrap();
    builder.set_certificate(&Authority::root().issue(&Wanted::leaf(&[name]), &key)).unwrap();
    builder.set_private_key(&key).unwrap();
    others.iter().for_each(|one| builder.add_extra_chain_cert(one.clone()).unwrap());
    builder.set_verify(SslVerifyMode::NONE);
    safe_ffi::allow_post_handshake_authentication(&mut builder);
    if watched {
        message_ffi::watch_peers::<ByCounts>(&mut builder);
    }
    builder.build()
}

fn only(version: ProtocolVersion, spec: ContextSpec) -> ContextSpec {
    ContextSpec { minimum_protocol: Some(version), maximum_protocol: Some(version), ..spec }
}

fn client_meets(version: ProtocolVersion, others: &[X509]) -> Outcome {
    let client = World::new().context(&only(version, ContextSpec::default()));
    let client = client.session(Role::Client, Some("server.test"), None).unwrap();
    shake(Ssl::new(&peer(SslMethod::tls(), "server.test", others, false)).unwrap(), client)
}

fn server_world() -> World {
    World::with([Authority::root().identity("server", Kind::P256, &["server.test"])])
}

fn server_meets(version: ProtocolVersion, others: &[X509]) -> Outcome {
    let verify = Some(VERIFY_PEER + VERIFY_FAIL_IF_NO_PEER_CERT);
    let server = server_world().context(&only(version, ContextSpec { verify, ..of("server") }));
    let server = server.session(Role::Server, None, None).unwrap();
    shake(server, Ssl::new(&peer(SslMethod::tls(), "client.test", others, false)).unwrap())
}

/// A session has failed for this reason, and none of the peer's certificates was parsed.
fn assert_unparsed(session: &Session, error: Option<&openssl::ssl::Error>, words: &str) {
    let error = error.unwrap();
    let failure = failure(error, session.ssl());
    assert_eq!(failure.code, ErrorCode::Tls);
    assert!(failure.message.starts_with("the peer sends ") && failure.message.contains(words), "{failure}");
    // libssl has not come to the first certificate.
    let reasons: Vec<_> =
        error.ssl_error().unwrap().errors().iter().filter_map(openssl::error::Error::reason).collect();
    assert_eq!(reasons, ["length mismatch"]);
    assert!(session.ssl().peer_certificate().is_none() && session.ssl().peer_cert_chain().is_none());
}

#[test]
fn finding_8_a_servers_costly_certificates_end_the_handshake_unparsed() {
    for version in VERSIONS {
        for (others, words) in too_costly() {
            let outcome = client_meets(version, &others);
            assert_unparsed(&outcome.client, outcome.client_error.as_ref(), words);
        }
        // Positive control.
        let (_, client) = client_meets(version, &good()).established();
        assert_eq!(client.ssl().peer_cert_chain().unwrap().len(), 16);
    }
}

#[test]
fn finding_8_a_clients_costly_certificates_end_the_handshake_unparsed() {
    for version in VERSIONS {
        for (others, words) in too_costly() {
            let outcome = server_meets(version, &others);
            assert_unparsed(&outcome.server, outcome.server_error.as_ref(), words);
        }
        // Positive control. A server's chain is without the client's own certificate.
        let (server, _) = server_meets(version, &good()).established();
        assert_eq!(server.ssl().peer_cert_chain().unwrap().len(), 15);
    }
}

#[test]
fn finding_8_without_the_watch_libssl_parses_such_certificates() {
    for (others, words) in too_costly() {
        for watched in [false, true] {
            let server = peer(SslMethod::tls(), "server.test", &others, false);
            let mut client = Ssl::new(&peer(SslMethod::tls(), "client.test", &[], watched)).unwrap();
            if watched {
                crate::handshake::peer_bounds::watch(&mut client, false);
            }
            let outcome = shake(Ssl::new(&server).unwrap(), client);
            if watched {
                assert_unparsed(&outcome.client, outcome.client_error.as_ref(), words);
            } else {
                let chain = outcome.client.ssl().peer_cert_chain();
                assert_eq!(chain.unwrap().len(), 1 + others.len());
            }
        }
    }
}

#[test]
fn finding_8_costly_certificates_after_the_handshake_end_the_session_unparsed() {
    for (others, words) in
        too_costly().into_iter().map(|(all, words)| (all, Some(words))).chain([(good(), None)])
    {
        let verify = Some(VERIFY_PEER + VERIFY_POST_HANDSHAKE);
        let server =
            server_world().context(&only(ProtocolVersion::Tls13, ContextSpec { verify, ..of("server") }));
        let server = server.session(Role::Server, None, None).unwrap();
        let client = Ssl::new(&peer(SslMethod::tls(), "client.test", &others, false)).unwrap();
        let (mut server, mut client) = shake(server, client).established();
        assert!(server.ssl().peer_certificate().is_none());
        assert!(request_client_certificate(crate::Exclusive::of(&mut server, Session::ssl)));
        server.do_handshake().unwrap();
        client.ssl_read(&mut [0; 64]).unwrap_err();
        let end = server.ssl_read(&mut [0; 64]).unwrap_err();
        match words {
            Some(words) => assert_unparsed(&server, Some(&end), words),
            None => assert!(server.ssl().peer_certificate().is_some(), "positive control"),
        }
    }
}

#[test]
fn finding_6_more_than_64_kib_of_certificates_are_not_parsed() {
    let names: Vec<String> = (0..700).map(|number| format!("{number:0>60}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wanted = Wanted { subject: "large", ..Wanted::leaf(&names) };
    let large = Authority::root().issue(&wanted, &Kind::P256.generate());
    assert!((40_000..60_000).contains(&large.to_der().unwrap().len()));
    for version in VERSIONS {
        let outcome = client_meets(version, &vec![large.clone(); 2]);
        let failure = failure(outcome.client_error.as_ref().unwrap(), outcome.client.ssl());
        assert_eq!(failure.code, ErrorCode::Tls);
        assert!(failure.message.contains("no more than 64 KiB"), "{failure}");
        assert!(outcome.client.ssl().peer_certificate().is_none());
        client_meets(version, std::slice::from_ref(&large)).established();
    }
}

#[test]
fn finding_6_certificates_of_very_many_names_are_not_parsed() {
    let with = |count: u32| {
        let names: Vec<String> = (0..count).map(|number| format!("{number}.test")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let wanted = Wanted { subject: "many", ..Wanted::leaf(&names) };
        vec![Authority::root().issue(&wanted, &Kind::P256.generate())]
    };
    let (many, fewer) = (with(5000), with(3000));
    for version in VERSIONS {
        let outcome = client_meets(version, &many);
        assert_unparsed(&outcome.client, outcome.client_error.as_ref(), "more than 4096 elements");
        client_meets(version, &fewer).established();
    }
}

#[test]
fn finding_8_what_programs_bring_has_no_costly_key() {
    let world = World::new();
    let of_trust = |certificate: &X509| {
        let certificates = vec![world.blob(&certificate.to_pem().unwrap())];
        ContextSpec { trust: TrustSpec { certificates, ..TrustSpec::default() }, ..ContextSpec::default() }
    };
    let read = |data: Vec<u8>| read_certificate(&ReadCertificate { data });
    let root = Authority::root();
    let check = |certificate: &X509, between: &X509| {
        let der = |certificate: &X509| certificate.to_der().unwrap();
        let (anchor, certificate) = (der(&root.certificate), der(certificate));
        check_issued(&CheckIssued { anchor, certificate, between: vec![ByteBuf::from(der(between))] })
    };
    for (key, words) in [(explicit(), "explicit parameters"), (compressed(), "uncompressed point")] {
        let certificate = certificate_of(&key);
        let refusals = [
            world.refusal(&of_trust(&certificate)),
            read(certificate.to_pem().unwrap()).unwrap_err(),
            read(certificate.to_der().unwrap()).unwrap_err(),
            check(&certificate, &root.certificate).unwrap_err(),
            check(&root.certificate, &certificate).unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.code, ErrorCode::Invalid);
            assert!(refusal.message.contains(words) && refusal.message.contains("it needs"), "{refusal}");
        }
    }
    // Positive control.
    for kind in Kind::ALL {
        let certificate = certificate_of(&kind.generate());
        world.context(&of_trust(&certificate));
        assert!(read(certificate.to_pem().unwrap()).is_ok() && read(certificate.to_der().unwrap()).is_ok());
        assert!(check(&certificate, &root.certificate).unwrap().issued);
    }
}
