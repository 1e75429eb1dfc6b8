//! Versions, ciphers, groups, Diffie-Hellman, application protocols, staples.

use crate::identity::PublicIdentity;
use crate::kit::pipe::shake;
use crate::kit::pki::{Authority, Kind};
use crate::kit::world::{FREE, World, meet, of};
use crate::{Floors, handshake::failure::failure, report::summary::summary};
use luassl_protocol::{ContextSpec, DhSpec, ErrorCode, ProtocolVersion, Role, SniEntry, option_sum};
use openssl::dh::Dh;
use openssl::pkey::PKey;
use openssl::ssl::StatusType;
use std::sync::Arc;

fn world() -> World {
    World::with([Authority::root().identity("server", Kind::Rsa, &["server.test"])])
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn tls12(spec: ContextSpec) -> ContextSpec {
    ContextSpec { maximum_protocol: Some(ProtocolVersion::Tls12), ..spec }
}

#[test]
fn a_floor_of_versions_is_kept_on_the_wire() {
    let world = world();
    let floors = Floors { minimum_protocol: ProtocolVersion::Tls13, ..FREE };
    let server = world.context_with(&of("server"), floors).unwrap();
    let old = world.context(&tls12(ContextSpec::default()));
    let outcome = meet(&server, &old, None);
    let own = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
    assert_eq!(own.message, "no protocol version in common with the peer");
    assert_eq!(own.reason, Some(luassl_protocol::FailureReason::NothingInCommon));
    let seen = failure(&outcome.client_error.unwrap(), outcome.client.ssl());
    assert!(seen.message.contains("protocol version (70)"), "{seen}");
    meet(&server, &world.context(&ContextSpec::default()), None).established();
}

#[test]
fn an_option_switches_a_version_off() {
    let world = world();
    let options = Some(option_sum(["OP_ALL", "OP_NO_TLSv1_3"]).unwrap());
    let server = world.context(&ContextSpec { options, ..of("server") });
    let (_, client) = meet(&server, &world.context(&ContextSpec::default()), None).established();
    assert_eq!(summary(client.ssl()).protocol, "TLSv1.2");
}

#[test]
fn ciphers_and_suites_are_those_asked_for() {
    let world = world();
    let ciphers = text("ECDHE-RSA-AES256-GCM-SHA384");
    let ciphersuites = text("TLS_CHACHA20_POLY1305_SHA256");
    let server = world.context(&ContextSpec { ciphers, ciphersuites, ..of("server") });
    for (client, cipher) in [
        (tls12(ContextSpec::default()), "ECDHE-RSA-AES256-GCM-SHA384"),
        (ContextSpec::default(), "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let (_, client) = meet(&server, &world.context(&client), None).established();
        assert_eq!(summary(client.ssl()).cipher, cipher);
    }
}

#[test]
fn what_selects_nothing_is_refused_by_name() {
    let world = world();
    for (spec, wanted) in [
        (ContextSpec { ciphers: text("NONSENSE"), ..of("server") }, "cipher string \"NONSENSE\""),
        (ContextSpec { ciphers: text("aNULL"), ..of("server") }, "cipher string \"aNULL\""),
        (ContextSpec { ciphers: text("AE\0S"), ..of("server") }, "zero byte"),
        (ContextSpec { ciphersuites: text("TLS_NONSENSE"), ..of("server") }, "\"TLS_NONSENSE\""),
        (ContextSpec { ciphersuites: text(""), ..of("server") }, "ciphersuites \"\""),
        (ContextSpec { groups: text("P-256:nonsense"), ..of("server") }, "groups \"P-256:nonsense\""),
        (ContextSpec { options: Some(1 << 52), ..of("server") }, "bit 52"),
        (ContextSpec { verify: Some(1 << 52), ..of("server") }, "bit 52"),
        (ContextSpec { alpn: vec![String::new()], ..of("server") }, "alpn protocol \"\""),
        (ContextSpec { dh: Some(DhSpec::Named("modp_1536".to_owned())), ..of("server") }, "\"modp_1536\""),
    ] {
        let refusal = world.refusal(&spec);
        assert_eq!(refusal.code, ErrorCode::Invalid);
        assert!(refusal.message.contains(wanted), "{refusal}");
    }
}

#[test]
fn rsa_key_exchange_needs_a_grant() {
    let world = world();
    let rsa = tls12(ContextSpec { ciphers: text("AES256-GCM-SHA384"), ..of("server") });
    let refusal = world.refusal(&rsa);
    assert_eq!(refusal.code, ErrorCode::Refused);
    assert!(refusal.message.contains("needs a grant of rsa_key_exchange"), "{refusal}");
    let granted = world.context_with(&rsa, Floors { rsa_key_exchange: true, ..FREE }).unwrap();
    let (server, client) = meet(&granted, &granted, None).established();
    assert_eq!(summary(client.ssl()).cipher, "AES256-GCM-SHA384");
    assert_eq!(summary(server.ssl()).cipher, "AES256-GCM-SHA384");
}

#[test]
fn a_list_that_has_rsa_key_exchange_too_loses_it_without_a_grant() {
    let world = world();
    let ciphers = text("AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384");
    let both = tls12(ContextSpec { ciphers, ..of("server") });
    let (_, client) = meet(&world.context(&both), &world.context(&both), None).established();
    assert_eq!(summary(client.ssl()).cipher, "ECDHE-RSA-AES256-GCM-SHA384");
}

#[test]
fn no_cipher_string_brings_rsa_key_exchange_back() {
    let world = world();
    let granted = Floors { rsa_key_exchange: true, ..FREE };
    let client = tls12(ContextSpec { ciphers: text("AES128-GCM-SHA256"), ..ContextSpec::default() });
    let client = world.context_with(&client, granted).unwrap();
    let mut tried = 0;
    // What follows these in the list that OpenSSL gets must not be swallowed by them.
    for ciphers in [
        "ALL:kRSA",
        "ALL:+kRSA",
        "kRSA+",
        "ALL+",
        "ALL!",
        "ALL:-",
        "ALL:@",
        "ALL;",
        "ALL ",
        "ALL:@SECLEVEL=0",
    ] {
        let spec = tls12(ContextSpec { ciphers: text(ciphers), ..of("server") });
        let Ok(server) = world.context_with(&spec, FREE) else { continue };
        let outcome = meet(&server, &client, None);
        assert!(outcome.server_error.is_some(), "{ciphers:?}");
        let server = world.context_with(&spec, granted).unwrap();
        meet(&server, &client, None).established();
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}

#[test]
fn without_a_common_cipher_both_sides_say_so() {
    let world = world();
    let server = tls12(ContextSpec { ciphers: text("ECDHE-RSA-AES256-GCM-SHA384"), ..of("server") });
    let client =
        tls12(ContextSpec { ciphers: text("ECDHE-RSA-AES128-GCM-SHA256"), ..ContextSpec::default() });
    let outcome = meet(&world.context(&server), &world.context(&client), None);
    let own = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
    assert_eq!((own.code, &*own.message), (ErrorCode::Tls, "no cipher in common with the peer"));
    assert_eq!(own.reason, Some(luassl_protocol::FailureReason::NothingInCommon));
    let seen = failure(&outcome.client_error.unwrap(), outcome.client.ssl());
    assert!(seen.message.starts_with("the peer sent the alert handshake failure (40)"), "{seen}");
}

#[test]
fn dhe_has_the_parameters_asked_for() {
    let world = world();
    let own = Dh::from_pqg(
        openssl::bn::BigNum::get_rfc3526_prime_3072().unwrap(),
        None,
        openssl::bn::BigNum::from_u32(2).unwrap(),
    );
    let pem = own.unwrap().params_to_pem().unwrap();
    for (dh, bits) in [
        (None, 2048),
        (Some(DhSpec::Automatic), 2048),
        (Some(DhSpec::Named("ffdhe4096".to_owned())), 4096),
        (Some(DhSpec::Parameters(world.blob(&pem))), 3072),
    ] {
        let server = tls12(ContextSpec { ciphers: text("DHE"), dh: dh.clone(), ..of("server") });
        let client = world.context(&ContextSpec::default());
        let (_, client) = meet(&world.context(&server), &client, None).established();
        assert!(summary(client.ssl()).cipher.starts_with("DHE-"));
        assert_eq!(client.ssl().peer_tmp_key().unwrap().bits(), bits, "{dh:?}");
    }
}

#[test]
fn dh_parameters_that_are_none_or_too_small_are_refused() {
    let world = world();
    let small = Dh::from_pqg(
        openssl::bn::BigNum::get_rfc2409_prime_1024().unwrap(),
        None,
        openssl::bn::BigNum::from_u32(2).unwrap(),
    );
    let small = small.unwrap().params_to_pem().unwrap();
    let other = PKey::public_key_from_der(&world_key()).unwrap().public_key_to_pem().unwrap();
    for (pem, wanted) in [(&small, "have 1024 bits"), (&other, "no PEM block"), (&vec![], "no PEM block")] {
        let dh = Some(DhSpec::Parameters(world.blob(pem)));
        let refusal = world.refusal(&ContextSpec { dh, ..of("server") });
        assert!(refusal.message.contains(wanted), "{refusal}");
    }
}

fn world_key() -> Vec<u8> {
    Kind::P256.generate().public_key_to_der().unwrap()
}

#[test]
fn application_protocols_are_the_servers_choice() {
    let world = world();
    let alpn = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let server = world.context(&ContextSpec { alpn: alpn(&["b", "a"]), ..of("server") });
    let client = |names| world.context(&ContextSpec { alpn: alpn(names), ..ContextSpec::default() });
    let (_, both) = meet(&server, &client(&["a", "b", "c"]), None).established();
    assert_eq!(summary(both.ssl()).alpn.as_deref(), Some("b"));
    let (_, none) = meet(&server, &client(&[]), None).established();
    assert_eq!(summary(none.ssl()).alpn, None);
    let outcome = meet(&server, &client(&["c"]), None);
    let own = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
    assert_eq!(own.message, "no application protocol (alpn) in common with the peer");
    assert_eq!(own.reason, Some(luassl_protocol::FailureReason::NothingInCommon));
    let seen = failure(&outcome.client_error.unwrap(), outcome.client.ssl());
    assert!(seen.message.contains("no application protocol (120)"), "{seen}");
}

#[test]
fn a_staple_goes_with_its_certificate() {
    let root = Authority::root();
    let stapled = |name: &str, host: &str, staple: &[u8]| {
        let identity = Arc::into_inner(root.identity(name, Kind::P256, &[host])).unwrap();
        Arc::new(PublicIdentity { staple: Some(staple.to_vec()), ..identity })
    };
    // Responses that say why there is none (RFC 6960, 4.2.1), which is enough to tell them apart.
    const ONE: &[u8] = &[0x30, 3, 10, 1, 1];
    const TWO: &[u8] = &[0x30, 3, 10, 1, 2];
    let world = World::with([
        stapled("one", "one.test", ONE),
        stapled("two", "two.test", TWO),
        stapled("broken", "broken.test", b"no response"),
        root.identity("three", Kind::P256, &["three.test"]),
    ]);
    let identities = ["two", "three", "broken"].map(str::to_owned).to_vec();
    let server = world.context(&ContextSpec { identities, ..of("one") });
    let client = world.context(&ContextSpec::default());
    for (host, staple) in
        [("one.test", Some(ONE)), ("two.test", Some(TWO)), ("three.test", None), ("broken.test", None)]
    {
        let mut session = client.session(Role::Client, Some(host), None).unwrap();
        session.set_status_type(StatusType::OCSP).unwrap();
        let outcome = shake(server.session(Role::Server, None, None).unwrap(), session);
        let (_, client) = outcome.established();
        assert_eq!(client.ssl().ocsp_status(), staple, "{host}");
    }
}

#[test]
fn the_default_group_is_the_best_that_the_linked_openssl_has() {
    let world = world();
    let server = world.context(&of("server"));
    let (_, client) = meet(&server, &world.context(&ContextSpec::default()), None).established();
    let best = if openssl::version::number() >= 0x3050_0000 { "X25519MLKEM768" } else { "X25519" };
    assert!(summary(client.ssl()).group.unwrap().eq_ignore_ascii_case(best));
}

#[test]
fn a_cipher_string_does_not_lower_the_level_of_security() {
    let world = World::with([Authority::root().identity("server", Kind::P256, &["server.test"])]);
    let with = |ciphers: &str| ContextSpec { ciphers: Some(ciphers.to_owned()), ..of("server") };
    let refusal = world.refusal(&with("ALL:@SECLEVEL=0"));
    assert_eq!(refusal.code, ErrorCode::Refused);
    assert!(refusal.message.contains("@SECLEVEL=") && refusal.message.contains("ALL:"), "{refusal}");
    world.context(&with("ALL"));
    world.context(&with("ALL:@SECLEVEL=3"));
}

#[test]
fn a_server_name_that_nothing_could_match_is_refused_with_the_forms_that_there_are() {
    let world = World::with([Authority::root().identity("server", Kind::P256, &["server.test"])]);
    for name in ["*", "a.*.test", "www*.test", "192.0.2.1"] {
        let entry = SniEntry { name: name.to_owned(), identity: "server".to_owned() };
        let refusal = world.refusal(&ContextSpec { sni: vec![entry], ..of("server") });
        assert_eq!(refusal.code, ErrorCode::Invalid);
        assert!(refusal.message.contains(name) && refusal.message.contains("*.example.org"), "{refusal}");
    }
}
