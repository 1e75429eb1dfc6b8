//! Certificates that cost whoever parses or verifies them as much as their bytes can.

use luassl_tests::pki::{Pair, new_key};
use openssl::asn1::{Asn1Integer, Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509Builder, X509Extension, X509Name};

/// DER: a tag, the length and the contents.
fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("a short value").to_be_bytes();
    [&[tag, 0x82], &length[..], contents].concat()
}

/// subjectAltName: so many times the shortest name.
fn alternative_names(count: usize) -> Vec<u8> {
    tagged(0x30, &[0x82, 1, b'a'].repeat(count))
}

/// nameConstraints that exclude so many other names: each has to be compared with each.
fn name_constraints(count: usize) -> Vec<u8> {
    tagged(0x30, &tagged(0xa1, &[0x30, 3, 0x82, 1, b'b'].repeat(count)))
}

fn extension(oid: &str, der: &[u8]) -> X509Extension {
    let oid = Asn1Object::from_str(oid).expect("an OID");
    let contents = Asn1OctetString::new_from_bytes(der).expect("memory");
    X509Extension::new_from_der(&oid, false, &contents).expect("an extension")
}

/// An authority's certificate with so many names and so many constraints.
pub(crate) fn authority(name: &str, names: usize, constraints: usize, issuer: Option<&Pair>) -> Pair {
    let key = new_key();
    let mut subject = X509Name::builder().expect("a name");
    subject.append_entry_by_nid(Nid::COMMONNAME, name).expect("a name");
    let subject = subject.build();
    let mut builder = X509Builder::new().expect("a builder");
    builder.set_version(2).expect("a version");
    let serial = BigNum::from_u32(1).and_then(|one| Asn1Integer::from_bn(&one)).expect("a serial");
    builder.set_serial_number(&serial).expect("a serial");
    builder.set_subject_name(&subject).expect("a name");
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).expect("a name");
    builder.set_pubkey(&key).expect("a key");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::days_from_now(30).expect("a time")).expect("a time");
    let constraint = BasicConstraints::new().critical().ca().build().expect("an extension");
    builder.append_extension(constraint).expect("an extension");
    for (oid, count, der) in [
        ("2.5.29.17", names, alternative_names(names)),
        ("2.5.29.30", constraints, name_constraints(constraints)),
    ] {
        if count > 0 {
            builder.append_extension(extension(oid, &der)).expect("an extension");
        }
    }
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).expect("a signature");
    Pair { certificate: builder.build(), key }
}

/// A chain from its trust anchor to its last certificate, each with `count` names and constraints.
pub(crate) fn chain(length: usize, count: usize) -> Vec<X509> {
    let mut chain: Vec<Pair> = Vec::new();
    for place in 0..length {
        let next = authority(&format!("costly {place}"), count, count, chain.last());
        chain.push(next);
    }
    chain.into_iter().map(|pair| pair.certificate).collect()
}

/// PEM of so many authorities; parsed they take many times the memory.
pub(crate) fn bundle(name: &str, count: usize, names: usize) -> Vec<u8> {
    let one =
        |place| authority(&format!("{name} {place}"), names, 0, None).certificate.to_pem().expect("PEM");
    (0..count).flat_map(one).collect()
}
