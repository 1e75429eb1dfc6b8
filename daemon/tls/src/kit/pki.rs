//! A certification authority in memory, and identities whose keys belong to the test signer.

use crate::identity::{KeyId, PublicIdentity};
use crate::kit::signer::signer;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, CrlNumber, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{
    X509, X509Builder, X509CrlBuilder, X509Name, X509NameBuilder, X509Ref, X509RevokedBuilder,
};
use std::sync::{Arc, LazyLock};

/// The algorithms that identities may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
    Ed448,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Rsa, Self::P256, Self::P384, Self::P521, Self::Ed25519, Self::Ed448];

    pub fn generate(self) -> PKey<Private> {
        // RSA key generation is slow, so all test identities share one key.
        static RSA: LazyLock<PKey<Private>> =
            LazyLock::new(|| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());
        let curve = |nid| {
            let group = EcGroup::from_curve_name(nid).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        };
        match self {
            Self::Rsa => RSA.clone(),
            Self::P256 => curve(Nid::X9_62_PRIME256V1),
            Self::P384 => curve(Nid::SECP384R1),
            Self::P521 => curve(Nid::SECP521R1),
            Self::Ed25519 => PKey::generate_ed25519().unwrap(),
            Self::Ed448 => PKey::generate_ed448().unwrap(),
        }
    }
}

/// A certification authority.
pub struct Authority {
    key: PKey<Private>,
    pub certificate: X509,
}

/// The content of a certificate.
#[derive(Clone)]
pub struct Wanted<'a> {
    pub subject: &'a str,
    pub names: &'a [&'a str],
    /// The first and the last moment, in days from now.
    pub days: (i64, i64),
    pub authority: bool,
}

impl<'a> Wanted<'a> {
    pub fn leaf(names: &'a [&'a str]) -> Self {
        Self { subject: names[0], names, days: (-1, 30), authority: false }
    }
}

impl Authority {
    /// Returns the authority that most tests use.
    pub fn root() -> &'static Self {
        static ROOT: LazyLock<Authority> = LazyLock::new(|| Authority::new("luassl test root"));
        signer();
        &ROOT
    }

    pub fn new(subject: &str) -> Self {
        signer();
        let key = Kind::P256.generate();
        let wanted = Wanted { subject, names: &[], days: (-1, 30), authority: true };
        let certificate = certificate(&wanted, &key, None, &key);
        Self { key, certificate }
    }

    /// Returns an authority below this one.
    pub fn intermediate(&self, subject: &str) -> Self {
        let key = Kind::P256.generate();
        let wanted = Wanted { subject, names: &[], days: (-1, 30), authority: true };
        let certificate = self.issue(&wanted, &key);
        Self { key, certificate }
    }

    pub fn issue(&self, wanted: &Wanted<'_>, key: &PKeyRef<Private>) -> X509 {
        certificate(wanted, key, Some(&self.certificate), &self.key)
    }

    /// Returns a CRL of this authority, as PEM.
    pub fn revoke(&self, certificates: &[&X509]) -> Vec<u8> {
        let mut list = X509CrlBuilder::new().unwrap();
        list.set_issuer_name(self.certificate.subject_name()).unwrap();
        list.set_last_update(&day(-1)).unwrap();
        list.set_next_update(&day(9)).unwrap();
        for certificate in certificates {
            let mut revoked = X509RevokedBuilder::new().unwrap();
            revoked.set_serial_number(certificate.serial_number()).unwrap();
            revoked.set_revocation_date(&day(-1)).unwrap();
            list.add_revoked(revoked.build()).unwrap();
        }
        list.append_extension(CrlNumber::new(BigNum::from_u32(1).unwrap()).unwrap().build().unwrap())
            .unwrap();
        let builder = X509Builder::new().unwrap();
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let issuer = AuthorityKeyIdentifier::new().keyid(true).build(&context).unwrap();
        list.append_extension(issuer).unwrap();
        list.sign(&self.key, MessageDigest::sha256()).unwrap();
        list.build().unwrap().to_pem().unwrap()
    }

    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// Returns an identity with a certificate of this authority for `names`.
    pub fn identity(&self, name: &str, kind: Kind, names: &[&str]) -> Arc<PublicIdentity> {
        let key = kind.generate();
        let leaf = self.issue(&Wanted::leaf(names), &key);
        declare(name, key, vec![leaf])
    }
}

/// Adds a key to the signer, and returns its public half.
pub fn declare(name: &str, key: PKey<Private>, chain: Vec<X509>) -> Arc<PublicIdentity> {
    let public_key = key.public_key_to_der().unwrap();
    let key_id = KeyId(sha256(&public_key));
    signer().add(name, key_id, key);
    Arc::new(PublicIdentity {
        name: name.to_owned(),
        generation: 1,
        key_id,
        public_key,
        chain: chain.iter().map(|certificate| certificate.to_der().unwrap()).collect(),
        staple: None,
    })
}

fn certificate(
    wanted: &Wanted<'_>,
    key: &PKeyRef<Private>,
    issuer: Option<&X509Ref>,
    issuer_key: &PKeyRef<Private>,
) -> X509 {
    let subject = name(wanted.subject);
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(64, MsbOption::ONE, false).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&subject, X509Ref::subject_name)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&day(wanted.days.0)).unwrap();
    builder.set_not_after(&day(wanted.days.1)).unwrap();
    extend(&mut builder, wanted, issuer);
    let digest = if issuer_key.id() == Id::ED25519 { MessageDigest::null() } else { MessageDigest::sha256() };
    builder.sign(issuer_key, digest).unwrap();
    builder.build()
}

fn extend(builder: &mut X509Builder, wanted: &Wanted<'_>, issuer: Option<&X509Ref>) {
    let key_id = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer, None)).unwrap();
    builder.append_extension(key_id).unwrap();
    if wanted.authority {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        let usage = KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap();
        builder.append_extension(usage).unwrap();
    }
    if !wanted.names.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in wanted.names {
            if name.parse::<std::net::IpAddr>().is_ok() {
                names.ip(name)
            } else {
                names.dns(name)
            };
        }
        let names = names.build(&builder.x509v3_context(issuer, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
}

fn name(common_name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", common_name).unwrap();
    builder.build()
}

fn day(offset: i64) -> Asn1Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Asn1Time::from_unix(i64::try_from(now.as_secs()).unwrap() + offset * 86_400).unwrap()
}
