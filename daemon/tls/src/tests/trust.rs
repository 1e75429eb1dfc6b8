//! Trust, revocation, host names and floors of verification.

use crate::kit::pki::{Authority, Kind, Wanted, declare};
use crate::kit::world::{FREE, World, meet, of};
use crate::{Floors, handshake::failure::failure};
use luassl_protocol::{ContextSpec, ErrorCode, Failure, Role, TrustSpec, VERIFY_NONE, VERIFY_PEER};

const STRICT: Floors = Floors { verify_required: true, ..FREE };

/// Why a client that expects `host` refuses the identity `server`; both are of `world`.
fn refused(world: &World, server: &str, client: &ContextSpec, host: Option<&str>) -> Failure {
    let outcome = meet(&world.context(&of(server)), &world.context(client), host);
    failure(&outcome.client_error.expect("the client must refuse"), outcome.client.ssl())
}

fn accepted(world: &World, server: &str, client: &ContextSpec, host: Option<&str>) {
    meet(&world.context(&of(server)), &world.context(client), host).established();
}

#[test]
fn hosts_are_checked_by_rfc_9525() {
    let names = ["host.test", "*.wild.test", "pa*.partial.test", "192.0.2.7", "2001:db8::7"];
    let world = World::with([Authority::root().identity("server", Kind::P256, &names)]);
    let client = ContextSpec::default();
    for good in ["host.test", "HOST.test.", "a.wild.test", "192.0.2.7", "2001:db8::7", "[2001:DB8::7]"] {
        accepted(&world, "server", &client, Some(good));
    }
    for bad in ["other.test", "wild.test", "a.b.wild.test", "part.partial.test", "192.0.2.8", "::1"] {
        let refusal = refused(&world, "server", &client, Some(bad));
        assert_eq!(refusal.code, ErrorCode::Verification, "{bad}");
        assert!(refusal.message.ends_with(&format!("and not for {bad}")), "{refusal}");
        assert!(refusal.message.contains("host.test, *.wild.test"), "{refusal}");
    }
}

#[test]
fn a_common_name_is_no_host_name() {
    let key = Kind::P256.generate();
    let wanted = Wanted { subject: "common.test", names: &[], days: (-1, 9), authority: false };
    let leaf = Authority::root().issue(&wanted, &key);
    let world = World::with([declare("common", key, vec![leaf])]);
    accepted(&world, "common", &ContextSpec::default(), None);
    let refusal = refused(&world, "common", &ContextSpec::default(), Some("common.test"));
    assert_eq!(refusal.code, ErrorCode::Verification);
}

#[test]
fn dates_are_checked_and_told() {
    let world = World::new();
    for (name, days, wanted) in
        [("late", (-9, -2), "certificate has expired (on "), ("early", (2, 9), " (valid from ")]
    {
        let key = Kind::P256.generate();
        let wanted_leaf = Wanted { days, ..Wanted::leaf(&["date.test"]) };
        let leaf = Authority::root().issue(&wanted_leaf, &key);
        world.identities.put(declare(name, key, vec![leaf]));
        let refusal = refused(&world, name, &ContextSpec::default(), Some("date.test"));
        assert_eq!(refusal.code, ErrorCode::Verification);
        assert!(refusal.message.contains(wanted), "{refusal}");
        assert!(refusal.message.ends_with("subject CN=date.test, issuer CN=luassl test root"), "{refusal}");
    }
}

#[test]
fn only_what_is_trusted_is_trusted() {
    let private = Authority::new("private root");
    let world = World::with([
        private.identity("private", Kind::P256, &["private.test"]),
        Authority::root().identity("public", Kind::P256, &["public.test"]),
    ]);
    world.trust("own", &private.pem(), &[]);
    let trusting = |trust| ContextSpec { trust, ..ContextSpec::default() };
    let system = trusting(TrustSpec { system: true, ..TrustSpec::default() });
    let named = trusting(TrustSpec { named: vec!["own".to_owned()], ..TrustSpec::default() });
    let certificates = vec![world.blob(&private.pem())];
    let client_supplied = trusting(TrustSpec { certificates: certificates.clone(), ..TrustSpec::default() });
    let both = trusting(TrustSpec { certificates, system: true, ..TrustSpec::default() });
    for (client, takes_public, takes_private) in [
        (ContextSpec::default(), true, false),
        (system, true, false),
        (named, false, true),
        (client_supplied, false, true),
    ] {
        for (server, takes) in [("public", takes_public), ("private", takes_private)] {
            if takes {
                accepted(&world, server, &client, None);
            } else {
                let refusal = refused(&world, server, &client, None);
                assert_eq!(refusal.code, ErrorCode::Verification);
                assert!(refusal.message.ends_with("the trust of the context lacks its issuer"), "{refusal}");
            }
        }
    }
    accepted(&world, "public", &both, None);
    accepted(&world, "private", &both, None);
    let named = vec!["missing".to_owned()];
    let refusal = world.refusal(&trusting(TrustSpec { named, ..TrustSpec::default() }));
    assert!(refusal.message.contains("\"missing\""), "{refusal}");
}

#[test]
fn revoked_certificates_are_refused_and_a_new_crl_reaches_contexts_that_stand() {
    let world = World::new();
    let authority = Authority::new("crl root");
    let middle = authority.intermediate("crl intermediate");
    let keys = [Kind::P256.generate(), Kind::P256.generate()];
    let leaves = [0, 1].map(|at| authority.issue(&Wanted::leaf(&["crl.test"]), &keys[at]));
    for (at, name) in ["good", "revoked"].into_iter().enumerate() {
        world.identities.put(declare(name, keys[at].clone(), vec![leaves[at].clone()]));
    }
    let crl = authority.revoke(&[&leaves[1], &middle.certificate]);
    let trust =
        |crls| TrustSpec { certificates: vec![world.blob(&authority.pem())], crls, ..TrustSpec::default() };
    let client = ContextSpec { trust: trust(vec![world.blob(&crl)]), ..ContextSpec::default() };
    accepted(&world, "good", &client, None);
    let refusal = refused(&world, "revoked", &client, None);
    assert!(refusal.message.contains("certificate revoked"), "{refusal}");

    let key = Kind::P256.generate();
    let deep = middle.issue(&Wanted::leaf(&["deep.test"]), &key);
    world.identities.put(declare("deep", key, vec![deep, middle.certificate.clone()]));
    let crls = vec![world.blob(&crl), world.blob(&middle.revoke(&[]))];
    let leaf_only = ContextSpec { trust: trust(crls), ..ContextSpec::default() };
    accepted(&world, "deep", &leaf_only, None);
    let whole = ContextSpec { crl_check_chain: true, ..leaf_only };
    let refusal = refused(&world, "deep", &whole, None);
    assert!(refusal.message.contains("certificate revoked"), "{refusal}");
    let none = ContextSpec { crl_check_chain: true, ..ContextSpec::default() };
    assert_eq!(world.refusal(&none).code, ErrorCode::Invalid);

    world.trust("listed", &authority.pem(), &[]);
    let trust = TrustSpec { named: vec!["listed".to_owned()], ..TrustSpec::default() };
    let standing = world.context(&ContextSpec { trust, ..ContextSpec::default() });
    let revoked = world.context(&of("revoked"));
    meet(&revoked, &standing, None).established();
    world.trust("listed", &authority.pem(), &crl);
    assert!(meet(&revoked, &standing, None).client_error.is_some());
}

#[test]
fn a_trust_that_cannot_be_read_keeps_its_former_content() {
    let world = World::with([Authority::root().identity("server", Kind::P256, &["server.test"])]);
    let client = world.context(&ContextSpec::default());
    let broken = luassl_settings::TrustSettings {
        certificates: vec![serde_bytes::ByteBuf::from(b"no pem".to_vec())],
        crls: vec![],
    };
    let faults = world.trusts.update(&[("system".to_owned(), broken)].into());
    assert_eq!(faults, ["trust \"system\" holds no certificate that can be read"]);
    meet(&world.context(&of("server")), &client, None).established();
}

#[test]
fn a_machine_without_certificates_serves_and_trusts_nobody() {
    let world = World::with([Authority::root().identity("server", Kind::P256, &["server.test"])]);
    world.trust("system", &[], &[]);
    let server = world.context(&of("server"));
    let careless = ContextSpec { verify: Some(VERIFY_NONE), ..ContextSpec::default() };
    meet(&server, &world.context(&careless), None).established();
    let refusal = refused(&world, "server", &ContextSpec::default(), None);
    assert_eq!(refusal.code, ErrorCode::Verification);
}

#[test]
fn the_chain_is_bounded_by_depth() {
    let world = World::new();
    let one = Authority::root().intermediate("one");
    let two = one.intermediate("two");
    let key = Kind::P256.generate();
    let leaf = two.issue(&Wanted::leaf(&["deep.test"]), &key);
    let chain = vec![leaf, two.certificate.clone(), one.certificate.clone()];
    world.identities.put(declare("deep", key, chain));
    accepted(&world, "deep", &ContextSpec { depth: Some(2), ..ContextSpec::default() }, None);
    let refusal = refused(&world, "deep", &ContextSpec { depth: Some(1), ..ContextSpec::default() }, None);
    assert_eq!(refusal.code, ErrorCode::Verification);
    assert_eq!(
        world.refusal(&ContextSpec { depth: Some(101), ..ContextSpec::default() }).code,
        ErrorCode::Invalid
    );
}

#[test]
fn a_floor_of_verification_cannot_be_switched_off() {
    let private = Authority::new("unknown root");
    let world = World::with([private.identity("server", Kind::P256, &["server.test"])]);
    let server = world.context(&of("server"));
    let careless = ContextSpec { verify: Some(VERIFY_NONE), ..ContextSpec::default() };
    meet(&server, &world.context(&careless), Some("other.test")).established();
    let floored = world.context_with(&careless, STRICT).unwrap();
    let outcome = meet(&server, &floored, Some("server.test"));
    let refusal = failure(&outcome.client_error.unwrap(), outcome.client.ssl());
    assert_eq!(refusal.code, ErrorCode::Verification);
    let Err(refusal) = floored.session(Role::Client, None, None) else { panic!("no host was given") };
    assert_eq!(refusal.code, ErrorCode::Refused);
}

#[test]
fn a_server_goes_on_without_a_client_certificate_unless_a_floor_or_a_host_demands_one() {
    let world = World::with([
        Authority::root().identity("server", Kind::P256, &["server.test"]),
        Authority::root().identity("client", Kind::P256, &["client.test"]),
    ]);
    let asking = ContextSpec { verify: Some(VERIFY_PEER), ..of("server") };
    let (nameless, named) = (world.context(&ContextSpec::default()), world.context(&of("client")));
    meet(&world.context(&asking), &nameless, None).established();
    let strict = world.context_with(&asking, STRICT).unwrap();
    let outcome = meet(&strict, &nameless, None);
    let refusal = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
    assert_eq!(
        (refusal.code, &*refusal.message),
        (ErrorCode::Verification, "the client sent no certificate, and one is required")
    );
    meet(&strict, &named, None).established();

    let server = world.context(&of("server"));
    for (host, good) in [("client.test", true), ("other.test", false)] {
        let server = server.session(Role::Server, Some(host), None).unwrap();
        let outcome = crate::kit::pipe::shake(server, named.session(Role::Client, None, None).unwrap());
        assert_eq!(outcome.server_error.is_none(), good, "{host}");
    }
}

#[test]
fn a_client_certificate_of_an_unknown_issuer_is_refused() {
    let world = World::with([
        Authority::root().identity("server", Kind::P256, &["server.test"]),
        Authority::new("unknown root").identity("client", Kind::P256, &["client.test"]),
    ]);
    let server = world.context(&ContextSpec { verify: Some(VERIFY_PEER), ..of("server") });
    let outcome = meet(&server, &world.context(&of("client")), None);
    let refusal = failure(&outcome.server_error.unwrap(), outcome.server.ssl());
    assert_eq!(refusal.code, ErrorCode::Verification);
    assert!(refusal.message.contains("subject CN=client.test, issuer CN=unknown root"), "{refusal}");
}
