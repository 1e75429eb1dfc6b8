//! What the provider's keys do and refuse.

use crate::identity::PublicIdentity;
use crate::kit::pipe::shake;
use crate::kit::pki::{Authority, Kind};
use crate::kit::signer::signer;
use crate::provider::private_key;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVersion};
use openssl::symm::Cipher;
use openssl::x509::X509;

#[test]
fn a_private_half_cannot_be_exported() {
    for kind in Kind::ALL {
        let identity = Authority::root().identity("export", kind, &["export.test"]);
        let key = private_key(&identity).unwrap();
        assert!(key.private_key_to_der().is_err(), "{kind:?}");
        assert!(key.private_key_to_pkcs8().is_err(), "{kind:?}");
        assert!(key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"x").is_err(), "{kind:?}");
        assert!(key.raw_private_key().is_err(), "{kind:?}");
        assert!(key.rsa().is_err() || key.rsa().unwrap().private_key_to_der().is_err(), "{kind:?}");
        let curve_key = key.ec_key();
        assert!(curve_key.is_err() || curve_key.unwrap().private_key_to_der().is_err(), "{kind:?}");
    }
    drop(ErrorStack::get());
}

#[test]
fn the_public_half_is_that_of_the_identity() {
    for kind in Kind::ALL {
        let identity = Authority::root().identity("public half", kind, &["public.test"]);
        let other = Authority::root().identity("other half", Kind::P256, &["public.test"]);
        let key = private_key(&identity).unwrap();
        assert_eq!(key.public_key_to_der().unwrap(), identity.public_key, "{kind:?}");
        let own = X509::from_der(&identity.chain[0]).unwrap().public_key().unwrap();
        let foreign = X509::from_der(&other.chain[0]).unwrap().public_key().unwrap();
        assert!(key.public_eq(&own) && own.public_eq(&key), "{kind:?}");
        assert!(!key.public_eq(&foreign), "{kind:?}");
        assert_eq!(
            (key.bits(), key.size(), key.security_bits()),
            (own.bits(), own.size(), own.security_bits())
        );
    }
    drop(ErrorStack::get());
}

#[test]
fn rsa_signs_with_pss_where_the_peer_asks_for_it_and_with_pkcs1_where_not() {
    for (sigalgs, name, scheme) in [
        ("rsa_pss_rsae_sha384", "rsa pss", 0x0805),
        ("RSA+SHA512", "rsa pkcs1", 0x0601),
        ("RSA+SHA256", "rsa pkcs1 256", 0x0401),
    ] {
        let identity = Authority::root().identity(name, Kind::Rsa, &["rsa.test"]);
        let mut builder = SslContext::builder(SslMethod::tls()).unwrap();
        builder.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        builder.set_sigalgs_list(sigalgs).unwrap();
        let client = Ssl::new(&builder.build()).unwrap();
        shake(Ssl::new(&serving(&identity)).unwrap(), client).established();
        assert_eq!(signer().schemes(name), [scheme]);
    }
}

#[test]
fn a_key_whose_keeper_is_gone_fails_the_handshake_and_not_the_process() {
    let identity = Authority::root().identity("unavailable", Kind::P256, &["gone.test"]);
    let client = SslContext::builder(SslMethod::tls()).unwrap().build();
    let outcome = shake(Ssl::new(&serving(&identity)).unwrap(), Ssl::new(&client).unwrap());
    assert!(outcome.server_error.is_some() && outcome.client_error.is_some());
    assert!(ErrorStack::get().errors().is_empty());
}

#[test]
fn general_algorithms_come_from_openssl_itself() {
    signer();
    let key = Kind::Rsa.generate();
    assert!(key.private_key_to_der().is_ok());
    let read = X509::from_der(&Authority::root().certificate.to_der().unwrap()).unwrap();
    assert!(read.verify(&read.public_key().unwrap()).unwrap());
}

fn serving(identity: &PublicIdentity) -> SslContext {
    let mut builder = SslContext::builder(SslMethod::tls()).unwrap();
    builder.set_certificate(&X509::from_der(&identity.chain[0]).unwrap()).unwrap();
    builder.set_private_key(&private_key(identity).unwrap()).unwrap();
    builder.build()
}
