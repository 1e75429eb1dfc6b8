//! Chains that clients bring, bare keys, the classic second argument, and renewals.

use crate::identity::{IdentitySource, PublicIdentity};
use crate::kit::pki::{Authority, Kind, Wanted, declare};
use crate::kit::world::{World, meet, of};
use crate::{Context, may_sign, peer_certificate};
use luassl_protocol::{ContextSpec, ErrorCode};
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use std::sync::Arc;

fn pem(certificates: &[&X509]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.to_pem().unwrap()).collect()
}

fn bare(name: &str) -> (PKey<Private>, Arc<PublicIdentity>) {
    let key = Kind::P256.generate();
    (key.clone(), declare(name, key, vec![]))
}

fn issue(names: &[&str], key: &PKey<Private>) -> X509 {
    Authority::root().issue(&Wanted::leaf(names), key)
}

fn proven(world: &World, server: &Context) -> Vec<String> {
    let (_, client) = meet(server, &world.context(&ContextSpec::default()), None).established();
    peer_certificate(client.ssl()).names
}

#[test]
fn a_bare_key_needs_a_chain_and_says_so() {
    let (_, identity) = bare("bare");
    let world = World::with([identity]);
    let refusal = world.refusal(&of("bare"));
    assert_eq!(refusal.code, ErrorCode::Invalid);
    assert_eq!(
        refusal.message,
        "identity \"bare\" is a bare key; give the certificate chain that goes with it"
    );
}

#[test]
fn a_brought_chain_must_carry_the_identitys_key() {
    let (key, identity) = bare("bare");
    let world = World::with([identity]);
    let good = pem(&[&issue(&["bare.test"], &key)]);
    let foreign = pem(&[&issue(&["foreign.test"], &Kind::P256.generate())]);
    let server = world.context(&ContextSpec { chain: Some(world.blob(&good)), ..of("bare") });
    assert_eq!(proven(&world, &server), ["bare.test"]);
    let refusal = world.refusal(&ContextSpec { chain: Some(world.blob(&foreign)), ..of("bare") });
    assert!(refusal.message.contains("subject CN=foreign.test"), "{refusal}");
    assert!(refusal.message.contains("public key of identity \"bare\""), "{refusal}");
}

#[test]
fn what_is_no_chain_is_refused() {
    let (_, identity) = bare("bare");
    let world = World::with([identity]);
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let secret = Kind::P256.generate().private_key_to_pem_pkcs8().unwrap();
    for (bytes, wanted) in
        [(&b"hello"[..], "no PEM block"), (&broken[..], "cannot be read"), (&secret, "holds a private key")]
    {
        let refusal = world.refusal(&ContextSpec { chain: Some(world.blob(bytes)), ..of("bare") });
        assert_eq!(refusal.code, ErrorCode::Invalid);
        assert!(refusal.message.contains(wanted), "{refusal}");
    }
}

#[test]
fn the_classic_second_argument_is_a_chain_or_trust() {
    let (key, identity) = bare("bare");
    let world = World::with([identity, Authority::root().identity("whole", Kind::P256, &["whole.test"])]);
    let chain = world.blob(&pem(&[&issue(&["bare.test"], &key)]));
    let server = world.context(&ContextSpec { chain_or_trust: Some(chain), ..of("bare") });
    assert_eq!(proven(&world, &server), ["bare.test"]);

    let private = Authority::new("private root");
    let trust = Some(world.blob(&private.pem()));
    world.identities.put(private.identity("private", Kind::P256, &["private.test"]));
    let client = world.context(&ContextSpec { chain_or_trust: trust, ..of("whole") });
    for server in ["private", "whole"] {
        let server = world.context(&of(server));
        meet(&server, &client, None).established();
    }
    let leaf = Some(world.blob(&pem(&[&issue(&["foreign.test"], &Kind::P256.generate())])));
    let foreign = world.refusal(&ContextSpec { chain_or_trust: leaf, ..of("whole") });
    assert!(foreign.message.contains("does not carry the public key"), "{foreign}");
    world.context(&ContextSpec { chain_or_trust: leaf, ..ContextSpec::default() });
    let bare = world.refusal(&ContextSpec { chain_or_trust: trust, ..of("bare") });
    assert!(bare.message.contains("is a bare key"), "{bare}");
}

#[test]
fn a_renewal_reaches_contexts_that_stand() {
    let root = Authority::root();
    let world = World::with([root.identity("site", Kind::P256, &["old.test"])]);
    let server = world.context(&of("site"));
    assert_eq!(proven(&world, &server), ["old.test"]);
    world.identities.put(root.identity("site", Kind::Rsa, &["new.test"]));
    assert_eq!(proven(&world, &server), ["new.test"]);
}

#[test]
fn threads_share_a_context_while_it_is_renewed() {
    let root = Authority::root();
    let generations = [Kind::P256, Kind::Rsa].map(|kind| root.identity("site", kind, &["site.test"]));
    let world = World::with([generations[0].clone()]);
    let (server, client) = (world.context(&of("site")), world.context(&ContextSpec::default()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                may_sign(true);
                for _ in 0..25 {
                    meet(&server, &client, Some("site.test")).established();
                }
            });
        }
        for at in 0..50 {
            world.identities.put(generations[at % 2].clone());
        }
    });
}

#[test]
fn a_generation_that_cannot_be_used_leaves_the_old_one_in_service() {
    let root = Authority::root();
    let world = World::with([
        root.identity("site", Kind::P256, &["old.test"]),
        root.identity("other", Kind::P256, &["other.test"]),
    ]);
    let server = world.context(&ContextSpec { identities: vec!["other".to_owned()], ..of("site") });
    world.identities.put(bare("site").1);
    world.identities.put(root.identity("other", Kind::P256, &["other.test", "renewed.test"]));
    assert_eq!(proven(&world, &server), ["old.test"]);
    let client = world.context(&ContextSpec::default());
    let (_, client) = meet(&server, &client, Some("other.test")).established();
    assert_eq!(peer_certificate(client.ssl()).names, ["other.test", "renewed.test"]);
    world.identities.remove("site");
    assert_eq!(proven(&world, &server), ["old.test"]);
}

#[test]
fn a_brought_chain_gives_way_to_the_chain_of_a_renewal() {
    let root = Authority::root();
    let key = Kind::P256.generate();
    let first = declare("site", key.clone(), vec![issue(&["first.test"], &key)]);
    let world = World::with([first]);
    let chain = Some(world.blob(&pem(&[&issue(&["brought.test"], &key)])));
    let server = world.context(&ContextSpec { chain, ..of("site") });
    assert_eq!(proven(&world, &server), ["brought.test"]);
    world.identities.put(root.identity("other", Kind::P256, &["other.test"]));
    assert_eq!(proven(&world, &server), ["brought.test"]);
    world.identities.put(root.identity("site", Kind::P256, &["renewed.test"]));
    assert_eq!(proven(&world, &server), ["renewed.test"]);
}

#[test]
fn an_identity_that_is_not_there_is_refused() {
    let refusal = World::new().refusal(&of("nobody"));
    assert_eq!(refusal.code, ErrorCode::Unavailable);
    assert!(refusal.message.contains("\"nobody\" is not loaded"), "{refusal}");
}

#[test]
fn a_brought_chain_of_a_former_key_gives_way_where_the_context_is_made_again() {
    let root = Authority::root();
    let world = World::with([root.identity("web", Kind::P256, &["old.test"])]);
    let old = world.identities.current("web").unwrap();
    let old = pem(&[&X509::from_der(&old.chain[0]).unwrap()]);
    let as_chain = ContextSpec { chain: Some(world.blob(&old)), ..of("web") };
    let as_certificate = ContextSpec { chain_or_trust: Some(world.blob(&old)), ..of("web") };
    world.identities.put(root.identity("web", Kind::P256, &["new.test"]));
    for spec in [as_chain, as_certificate] {
        assert_eq!(world.refusal(&spec).code, ErrorCode::Invalid, "at first it is a mistake");
        let server = world.context_again(&spec).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(proven(&world, &server), ["new.test"]);
    }
}

#[test]
fn a_bare_key_has_no_chain_of_its_own_to_give_way_to() {
    let (key, identity) = bare("bare");
    let world = World::with([identity]);
    let chain = Some(world.blob(&pem(&[&issue(&["bare.test"], &key)])));
    let spec = ContextSpec { chain, ..of("bare") };
    world.identities.put(bare("bare").1);
    let refusal = world.context_again(&spec).err().unwrap();
    assert!(refusal.message.contains("public key of identity \"bare\""), "{refusal}");
}
