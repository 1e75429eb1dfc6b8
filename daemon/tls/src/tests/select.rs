//! Which certificate a server proves, by the name that the client asks for.

use crate::kit::pipe::{Outcome, shake};
use crate::kit::pki::{Authority, Kind, Wanted, declare};
use crate::kit::world::{World, of};
use crate::{Context, handshake::failure::failure, peer_certificate};
use luassl_protocol::{ContextSpec, ErrorCode, ProtocolVersion, Role, SniEntry};

fn world() -> World {
    let root = Authority::root();
    World::with([
        root.identity("default", Kind::Rsa, &["default.test"]),
        root.identity("wild", Kind::P256, &["*.wild.test", "wild.test"]),
        root.identity("exact", Kind::Ed25519, &["exact.wild.test"]),
        root.identity("rsa twin", Kind::Rsa, &["twin.test"]),
        root.identity("ecdsa twin", Kind::P384, &["twin.test"]),
        root.identity("unlisted", Kind::P256, &["unlisted.test"]),
    ])
}

fn listener() -> ContextSpec {
    let identities = ["wild", "exact", "rsa twin", "ecdsa twin"].map(str::to_owned).to_vec();
    ContextSpec { identities, ..of("default") }
}

fn ask(server: &Context, client: &Context, name: Option<&str>) -> Outcome {
    let server = server.session(Role::Server, None, None).unwrap();
    shake(server, client.session(Role::Client, None, name).unwrap())
}

fn proven(server: &Context, client: &Context, name: Option<&str>) -> Vec<String> {
    let (_, client) = ask(server, client, name).established();
    peer_certificate(client.ssl()).names
}

#[test]
fn the_certificate_follows_the_name_that_is_asked_for() {
    let world = world();
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let server = world.context(&ContextSpec { maximum_protocol: Some(version), ..listener() });
        let client = world.context(&ContextSpec::default());
        assert_eq!(proven(&server, &client, Some("wild.test")), ["*.wild.test", "wild.test"]);
        assert_eq!(proven(&server, &client, Some("A.wild.test")), ["*.wild.test", "wild.test"]);
        assert_eq!(proven(&server, &client, Some("exact.wild.test")), ["exact.wild.test"]);
        for other in [None, Some("default.test"), Some("unknown.test"), Some("a.b.wild.test")] {
            assert_eq!(proven(&server, &client, other), ["default.test"], "{other:?}");
        }
    }
}

#[test]
fn names_of_the_clients_choice_win_over_names_in_certificates() {
    let world = world();
    let entry =
        |name: &str, identity: &str| SniEntry { name: name.to_owned(), identity: identity.to_owned() };
    let sni = vec![entry("exact.wild.test", "unlisted"), entry("*.free.test", "wild")];
    let server = world.context(&ContextSpec { sni, ..listener() });
    let client = world.context(&ContextSpec::default());
    assert_eq!(proven(&server, &client, Some("exact.wild.test")), ["unlisted.test"]);
    assert_eq!(proven(&server, &client, Some("x.free.test")), ["*.wild.test", "wild.test"]);
    assert_eq!(proven(&server, &client, Some("unlisted.test")), ["default.test"]);
}

#[test]
fn two_identities_of_one_name_serve_by_key_type() {
    let world = world();
    let server = world.context(&listener());
    let only = |ciphers: &str| {
        let ciphers = Some(ciphers.to_owned());
        let maximum_protocol = Some(ProtocolVersion::Tls12);
        world.context(&ContextSpec { ciphers, maximum_protocol, ..ContextSpec::default() })
    };
    for (ciphers, bits) in [("ECDHE+aRSA", 2048), ("ECDHE+aECDSA", 384)] {
        let (_, client) = ask(&server, &only(ciphers), Some("twin.test")).established();
        assert_eq!(client.ssl().peer_certificate().unwrap().public_key().unwrap().bits(), bits);
    }
}

#[test]
fn a_strict_listener_refuses_a_name_that_nothing_answers_to() {
    let world = world();
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let spec = ContextSpec { sni_strict: true, maximum_protocol: Some(version), ..listener() };
        let server = world.context(&spec);
        let client = world.context(&ContextSpec::default());
        let outcome = ask(&server, &client, Some("unknown.test"));
        let seen = failure(&outcome.client_error.unwrap(), outcome.client.ssl());
        assert_eq!(seen.code, ErrorCode::Tls);
        assert!(seen.message.contains("unrecognized name (112)"), "{seen}");
        let own = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
        assert_eq!(own.message, "no identity answers to the server name unknown.test");
        assert_eq!(proven(&server, &client, Some("exact.wild.test")), ["exact.wild.test"]);
        assert_eq!(proven(&server, &client, None), ["default.test"]);
    }
}

#[test]
fn without_an_identity_of_its_own_a_listener_has_its_first_one() {
    let world = world();
    let identities = vec!["exact".to_owned(), "wild".to_owned()];
    let server = world.context(&ContextSpec { identities, ..ContextSpec::default() });
    let client = world.context(&ContextSpec::default());
    assert_eq!(proven(&server, &client, None), ["exact.wild.test"]);
    assert_eq!(proven(&server, &client, Some("wild.test")), ["*.wild.test", "wild.test"]);
}

#[test]
fn a_chain_goes_out_as_it_is_and_is_not_mixed_with_anothers() {
    let world = world();
    let middle = Authority::root().intermediate("luassl test middle");
    let key = Kind::P256.generate();
    let leaf = middle.issue(&Wanted::leaf(&["deep.test"]), &key);
    world.identities.put(declare("deep", key, vec![leaf, middle.certificate.clone()]));
    for own in ["deep", "default"] {
        let other = if own == "deep" { "default" } else { "deep" };
        let server = world.context(&ContextSpec { identities: vec![other.to_owned()], ..of(own) });
        let client = world.context(&ContextSpec::default());
        for (name, length) in [("deep.test", 2), ("default.test", 1)] {
            let (_, client) = ask(&server, &client, Some(name)).established();
            assert_eq!(peer_certificate(client.ssl()).chain.len(), length, "{own} {name}");
        }
    }
}
