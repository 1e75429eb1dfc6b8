//! What comes from the network before anything is agreed on: libssl reads it, and calls back into the front.

use crate::files::FLOORS;
use luassl_keeper_ipc::front::{EpochKey, Tickets};
use luassl_protocol::{ContextSpec, Role, SniEntry};
use luassl_settings::TrustSettings;
use luassl_tls::identity::{IdentitySource, KeyId, PreMaster, PublicIdentity, SignError, Signer};
use luassl_tls::peer_keys::{self, Form};
use luassl_tls::{self as tls, Context, ContextSource, Resumption, TicketKeys, TrustStores};
use openssl::asn1::Asn1Time;
use openssl::ec::{Asn1Flag, EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::ssl::{Ssl, SslStream};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use std::io::{self, Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// A peer that has sent some bytes and then closed; what it is sent is thrown away.
struct Peer<'a>(&'a [u8]);

impl Read for Peer<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both sides of a front with two identities, whose keys are in this process.
struct World {
    server: Context,
    client: Context,
}

struct Local(PKey<Private>);

impl Signer for Local {
    fn sign(&self, _: &str, _: KeyId, _: u16, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let refused = |error: openssl::error::ErrorStack| SignError::Refused(error.to_string());
        let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &self.0).map_err(refused)?;
        signer.sign_oneshot_to_vec(message).map_err(refused)
    }

    fn decrypt(&self, _: &str, _: KeyId, _: u16, _: &[u8]) -> Result<PreMaster, SignError> {
        Err(SignError::Refused("the key is not RSA".to_owned()))
    }
}

struct Identities([Arc<PublicIdentity>; 2]);

impl IdentitySource for Identities {
    fn current(&self, name: &str) -> Option<Arc<PublicIdentity>> {
        self.0.iter().find(|identity| identity.name == name).cloned()
    }

    fn epoch(&self) -> u64 {
        0
    }
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    let key = EcKey::generate(&group).and_then(PKey::from_ec_key).expect("a key");
    let identities = ["one", "two"].map(|name| Arc::new(identity(name, &key)));
    tls::install(Arc::new(Local(key))).expect("the first use of OpenSSL");
    let keys = TicketKeys::default();
    let number =
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / u64::from(EPOCH);
    keys.put(&Tickets { length: EPOCH, number, keys: [&[1; 32], &[2; 32], &[3; 32]].map(EpochKey) });
    let resumption = Arc::new(Resumption::new(Arc::new(keys)));
    resumption.configure(3600, 100, 100);
    let trusts = TrustStores::new();
    let _ = trusts.update(&[("system".to_owned(), TrustSettings::default())].into());
    let (identities, trusts) = (Arc::new(Identities(identities)), Arc::new(trusts));
    let context = |spec| {
        let (floors, owner) = (FLOORS, "fuzz".into());
        let (ledger, trusts_of_grant) = (None, None);
        let source = ContextSource {
            spec,
            blobs: [].into(),
            floors,
            owner,
            recreated: true,
            ledger,
            trusts: trusts_of_grant,
        };
        let made = Context::new(source, identities.clone(), Arc::clone(&trusts), Arc::clone(&resumption));
        made.unwrap_or_else(|failure| panic!("{failure}"))
    };
    let sni = vec![SniEntry { name: "*.two.test".to_owned(), identity: "two".to_owned() }];
    let alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    let server =
        ContextSpec { identity: Some("one".to_owned()), sni, alpn: alpn.clone(), ..ContextSpec::default() };
    World { server: context(server), client: context(ContextSpec { alpn, ..ContextSpec::default() }) }
});

/// Longer than any run, in seconds.
const EPOCH: u32 = 1_000_000_000;

fn identity(name: &str, key: &PKey<Private>) -> PublicIdentity {
    let public_key = key.public_key_to_der().expect("a public half");
    PublicIdentity {
        name: name.to_owned(),
        generation: 1,
        key_id: KeyId(sha256(&public_key)),
        public_key,
        chain: vec![certificate(name, key).and_then(|leaf| leaf.to_der()).expect("a certificate")],
        staple: None,
    }
}

fn certificate(name: &str, key: &PKey<Private>) -> Result<X509, openssl::error::ErrorStack> {
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_text("CN", name)?;
    let subject = subject.build();
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(&subject)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(30)?)?;
    let names = SubjectAlternativeName::new()
        .dns(&format!("{name}.test"))
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn meet(ssl: Ssl, bytes: &[u8]) {
    tls::may_sign(true);
    let mut stream = SslStream::new(ssl, Peer(bytes)).expect("a stream");
    let outcome = stream.do_handshake();
    // Nobody who only talks to himself gets through a handshake.
    if let Err(error) = outcome {
        assert!(!tls::failure(&error, stream.ssl()).message.is_empty());
        let _ = tls::summary(stream.ssl());
    } else {
        panic!("a handshake with nobody");
    }
}

/// A server hears a ClientHello and whatever follows: the name that it asks for, the session that it offers.
pub(crate) fn client_hello(bytes: &[u8]) {
    meet(WORLD.server.session(Role::Server, None, None).expect("a session"), bytes);
}

/// A client hears a server's first flight.
pub(crate) fn server_hello(bytes: &[u8]) {
    let peer = ([192, 0, 2, 1], 443).into();
    meet(WORLD.client.session_with(Some("one.test"), None, peer).expect("a session"), bytes);
}

/// What stands in a peer's Certificate message, and a certificate alone. What passes, and can be parsed, has no key that
/// takes long to parse.
pub(crate) fn peer_certificates(bytes: &[u8]) {
    LazyLock::force(&WORLD);
    for form in [Form::Tls12, Form::Tls13] {
        if let Err((at, fault)) = peer_keys::check_message(bytes, form) {
            assert!(at + 3 <= bytes.len(), "the length of the list is not in the message");
            assert!(!fault.to_string().is_empty());
        }
    }
    if peer_keys::check_certificate(bytes).is_err() {
        return;
    }
    let parsed = tls::without_error_queue(|| X509::from_der(bytes).and_then(|parsed| parsed.public_key()));
    let Ok(key) = parsed else { return };
    if let Ok(key) = key.rsa() {
        assert!(key.n().num_bits() <= 8192 && key.e().num_bits() <= 64);
    } else if let Ok(key) = key.ec_key() {
        assert!(key.group().asn1_flag() == Asn1Flag::NAMED_CURVE && key.group().curve_name().is_some());
    }
}
