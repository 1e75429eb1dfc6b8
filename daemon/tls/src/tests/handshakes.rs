//! Every key type in every version, with and without a client certificate.

use crate::kit::pipe::pass;
use crate::kit::pki::{Authority, Kind};
use crate::kit::world::{World, meet, of};
use crate::{peer_certificate, peer_matches, report::summary::summary};
use luassl_protocol::{ContextSpec, ProtocolVersion, VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER};
use openssl::error::ErrorStack;

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::Tls12, ProtocolVersion::Tls13];

fn only(version: ProtocolVersion, spec: ContextSpec) -> ContextSpec {
    ContextSpec { minimum_protocol: Some(version), maximum_protocol: Some(version), ..spec }
}

fn world(kind: Kind) -> World {
    World::with([
        Authority::root().identity("server", kind, &["server.test", "192.0.2.1"]),
        Authority::root().identity("client", kind, &["client.test"]),
    ])
}

#[test]
fn every_key_type_authenticates_the_server_in_both_versions() {
    for (version, kind) in VERSIONS.into_iter().flat_map(|version| Kind::ALL.map(|kind| (version, kind))) {
        let world = world(kind);
        let server = world.context(&only(version, of("server")));
        let client = world.context(&only(version, ContextSpec::default()));
        let (mut server, mut client) = meet(&server, &client, Some("server.test")).established();
        pass(&mut client, &mut server, b"ping");
        pass(&mut server, &mut client, b"pong");
        assert!(
            summary(client.ssl()).peer_certificate && !summary(server.ssl()).peer_certificate,
            "{kind:?}"
        );
        assert!(ErrorStack::get().errors().is_empty(), "{kind:?}");
    }
}

#[test]
fn every_key_type_authenticates_both_sides_in_both_versions() {
    for (version, kind) in VERSIONS.into_iter().flat_map(|version| Kind::ALL.map(|kind| (version, kind))) {
        let world = world(kind);
        let verify = Some(VERIFY_PEER + VERIFY_FAIL_IF_NO_PEER_CERT);
        let server = world.context(&only(version, ContextSpec { verify, ..of("server") }));
        let client = world.context(&only(version, of("client")));
        let (mut server, mut client) = meet(&server, &client, Some("192.0.2.1")).established();
        pass(&mut client, &mut server, b"ping");
        pass(&mut server, &mut client, b"pong");
        assert_eq!(peer_certificate(server.ssl()).names, ["client.test"], "{kind:?}");
        assert!(peer_matches(server.ssl(), "CLIENT.test.") && !peer_matches(server.ssl(), "server.test"));
        assert!(peer_matches(client.ssl(), "192.0.2.1") && !peer_matches(client.ssl(), "192.0.2.2"));
        assert!(ErrorStack::get().errors().is_empty(), "{kind:?}");
    }
}

#[test]
fn info_tells_what_was_agreed_on() {
    let world = world(Kind::P256);
    let alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    for (version, name) in [(ProtocolVersion::Tls12, "TLSv1.2"), (ProtocolVersion::Tls13, "TLSv1.3")] {
        let groups = Some("P-384".to_owned());
        let server = ContextSpec { alpn: alpn.clone(), groups, ..of("server") };
        let client = ContextSpec { alpn: vec!["http/1.1".to_owned()], ..ContextSpec::default() };
        let server = world.context(&only(version, server));
        let client = world.context(&client);
        let (server, client) = meet(&server, &client, Some("server.test")).established();
        for session in [&server, &client] {
            let info = summary(session.ssl());
            assert_eq!((&*info.protocol, info.bits, info.reused), (name, 256, false));
            assert!(info.cipher.contains("AES_256_GCM") || info.cipher.contains("AES256-GCM"), "{info:?}");
            assert_eq!(info.group.as_deref(), Some("secp384r1"), "{name}");
            assert_eq!(info.alpn.as_deref(), Some("http/1.1"));
            assert_eq!(info.sni.as_deref(), Some("server.test"));
        }
        assert_eq!((summary(client.ssl()).verify_code, &*summary(client.ssl()).verify_text), (0, "ok"));
        assert_eq!(summary(server.ssl()).verify_text, "");
    }
}

#[test]
fn a_peer_certificate_is_read_whole() {
    let world = World::new();
    let middle = Authority::root().intermediate("luassl test intermediate");
    let key = Kind::P256.generate();
    let leaf = middle.issue(&crate::kit::pki::Wanted::leaf(&["leaf.test", "*.leaf.test", "::1"]), &key);
    let chain = vec![leaf.clone(), middle.certificate.clone()];
    world.identities.put(crate::kit::pki::declare("leaf", key, chain));
    let (_, client) =
        meet(&world.context(&of("leaf")), &world.context(&ContextSpec::default()), Some("a.leaf.test"))
            .established();
    let read = peer_certificate(client.ssl());
    assert_eq!(read.chain, [leaf.to_der().unwrap(), middle.certificate.to_der().unwrap()]);
    assert_eq!(read.names, ["leaf.test", "*.leaf.test", "::1"]);
    assert_eq!((&*read.subject, &*read.issuer), ("CN=leaf.test", "CN=luassl test intermediate"));
    assert_eq!(read.pem.into_bytes(), leaf.to_pem().unwrap());
    assert_eq!(read.not_after - read.not_before, 31 * 86_400);
    assert_eq!((read.sha1.len(), read.sha256.len()), (40, 64));
    assert_eq!(read.serial, leaf.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string());
}
