//! Every key type in every version, with and without a client certificate, through the bare provider.

use super::pipe::{pass, shake};
use super::pki::{Authority, Kind};
use crate::identity::PublicIdentity;
use crate::tls::provider::private_key;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;

fn context(identity: Option<&PublicIdentity>, version: SslVersion) -> SslContext {
    let mut builder = SslContext::builder(SslMethod::tls()).unwrap();
    builder.set_min_proto_version(Some(version)).unwrap();
    builder.set_max_proto_version(Some(version)).unwrap();
    builder.cert_store_mut().add_cert(Authority::root().certificate.clone()).unwrap();
    if let Some(identity) = identity {
        builder.set_certificate(&X509::from_der(&identity.chain[0]).unwrap()).unwrap();
        builder.set_private_key(&private_key(identity).unwrap()).unwrap();
        builder.check_private_key().unwrap();
    }
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    builder.build()
}

#[test]
fn every_key_type_serves_and_authenticates_clients_in_both_versions() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for kind in Kind::ALL {
            let server = Authority::root().identity("bare server", kind, &["server.test"]);
            let client = Authority::root().identity("bare client", kind, &["client.test"]);
            let server = Ssl::new(&context(Some(&server), version)).unwrap();
            let client = Ssl::new(&context(Some(&client), version)).unwrap();
            let (mut server, mut client) = shake(server, client).established();
            assert_eq!(server.ssl().version2(), Some(version), "{kind:?}");
            pass(&mut client, &mut server, b"ping");
            pass(&mut server, &mut client, b"pong");
            assert!(ErrorStack::get().errors().is_empty(), "{kind:?}");
        }
    }
}
