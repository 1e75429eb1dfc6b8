//! Reads certificates for clients, in OpenSSL's terms.

use crate::verify::peer_keys::{self, KeyFault};
use crate::{ffi::safe_ffi, verify::pem};
use luassl_protocol::{
    CertificateFacts, CertificateText, CheckIssued, ErrorCode, Failure, Issued, ReadCertificate,
};
use openssl::asn1::{Asn1StringRef, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{GeneralNameRef, X509, X509NameRef, X509Ref, X509StoreContext};
use serde_bytes::ByteBuf;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The size of the largest certificate that is read for a client, in bytes of PEM or DER.
pub(crate) const MAX_CERTIFICATE: usize = 64 << 10;

/// The maximum number of certificates in one [`check_issued`].
const MAX_CHECKED: usize = 16;

/// The maximum bytes of these certificates. The cost of names and name constraints increases with the product of their
/// numbers. With this limit it is a fraction of a second.
const MAX_CHECKED_BYTES: usize = 64 << 10;

/// The length of the longest chain that is built from them, below the trust anchor.
const MAX_CHECKED_DEPTH: i32 = 8;

fn too_much(what: &str, there: usize, most: usize) -> Failure {
    Failure::new(ErrorCode::Limit, format!("{there} {what} are too many: at most {most} are looked at"))
}

fn unreadable() -> Failure {
    Failure::new(ErrorCode::Invalid, "this is no certificate, neither PEM nor DER")
}

/// Parses a DER certificate if its key may be parsed.
fn parse(der: &[u8]) -> Result<X509, Failure> {
    match peer_keys::check_certificate(der) {
        Ok(()) => X509::from_der(der).map_err(|_| unreadable()),
        Err(KeyFault::NotFound) => Err(unreadable()),
        Err(fault) => {
            Err(Failure::new(ErrorCode::Invalid, format!("this certificate is not read: it has {fault}")))
        }
    }
}

/// Reads a certificate.
///
/// # Errors
/// `Invalid` for input that is not a certificate, `Limit` for input that is too large.
pub fn read_certificate(request: &ReadCertificate) -> Result<CertificateFacts, Failure> {
    if request.data.len() > MAX_CERTIFICATE {
        return Err(too_much("bytes of one certificate", request.data.len(), MAX_CERTIFICATE));
    }
    let decoded = pem::first_certificate(&request.data);
    let certificate = parse(decoded.as_deref().unwrap_or(&request.data))?;
    safe_ffi::without_error_queue(|| session_report(&certificate)).map_err(|_| unreadable())
}

fn session_report(certificate: &X509Ref) -> Result<CertificateFacts, ErrorStack> {
    let digest = |by| certificate.digest(by).map(|digest| ByteBuf::from(digest.to_vec()));
    let key = certificate.public_key().ok();
    Ok(CertificateFacts {
        der: certificate.to_der()?.into(),
        pem: text(certificate.to_pem()?),
        subject: parts(certificate.subject_name()),
        issuer: parts(certificate.issuer_name()),
        names: names(certificate),
        not_before: certificate.not_before().to_string(),
        not_after: certificate.not_after().to_string(),
        valid_from: seconds(certificate.not_before()),
        valid_to: seconds(certificate.not_after()),
        serial: certificate.serial_number().to_bn()?.to_hex_str()?.to_string(),
        public_key: key
            .as_ref()
            .map(|key| key.public_key_to_pem())
            .transpose()?
            .map(text)
            .unwrap_or_default(),
        key_type: key.as_ref().map_or("Unknown", |key| key_type(key)).to_owned(),
        key_bits: key.as_ref().map_or(0, |key| key.bits()),
        signature: signature(certificate),
        sha1: digest(MessageDigest::sha1())?,
        sha256: digest(MessageDigest::sha256())?,
        sha512: digest(MessageDigest::sha512())?,
    })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn seconds(time: &Asn1TimeRef) -> i64 {
    crate::report::peer::seconds(time)
}

fn key_type(key: &PKeyRef<Public>) -> &'static str {
    match key.id() {
        Id::RSA => "RSA",
        Id::EC => "EC",
        Id::DSA => "DSA",
        Id::DH => "DH",
        _ => "Unknown",
    }
}

fn signature(certificate: &X509Ref) -> String {
    let algorithm = certificate.signature_algorithm().object().nid();
    algorithm.short_name().map(str::to_owned).unwrap_or_default()
}

fn parts(name: &X509NameRef) -> Vec<CertificateText> {
    let part = |entry: &openssl::x509::X509NameEntryRef| {
        let (oid, name) = (safe_ffi::oid(entry.object()), entry.object().to_string());
        of_string(oid, name, entry.data())
    };
    name.entries().map(part).collect()
}

fn of_string(oid: String, name: String, string: &Asn1StringRef) -> CertificateText {
    let value = string.as_slice();
    let utf8 = string.to_string().ok().map(String::into_bytes);
    let utf8 = utf8.filter(|utf8| utf8 != value).map(ByteBuf::from);
    CertificateText { oid, name, value: ByteBuf::from(value), utf8 }
}

fn names(certificate: &X509Ref) -> Vec<CertificateText> {
    certificate.subject_alt_names().into_iter().flatten().filter_map(|name| general_name(&name)).collect()
}

fn general_name(name: &GeneralNameRef) -> Option<CertificateText> {
    let simple = |kind: &str, value: &[u8]| CertificateText {
        oid: kind.to_owned(),
        name: String::new(),
        value: ByteBuf::from(value),
        utf8: None,
    };
    if let Some((oid, label, value)) = safe_ffi::other_name(name) {
        return Some(of_string(oid, label, value));
    }
    let dns = name.dnsname().map(|dns| simple("dNSName", dns.as_bytes()));
    let email = || name.email().map(|email| simple("rfc822Name", email.as_bytes()));
    let uri = || name.uri().map(|uri| simple("uniformResourceIdentifier", uri.as_bytes()));
    let address = || Some(simple("iPAddress", address(name.ipaddress()?)?.as_bytes()));
    dns.or_else(email).or_else(uri).or_else(address)
}

fn address(octets: &[u8]) -> Option<String> {
    match octets.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).to_string()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_string()),
        _ => None,
    }
}

/// Checks whether a certificate verifies with another certificate as its only trust anchor.
///
/// # Errors
/// `Invalid` for input that is not a certificate, `Limit` for more certificates than are checked.
pub fn check_issued(request: &CheckIssued) -> Result<Issued, Failure> {
    let bytes = request.anchor.len() + request.certificate.len();
    let bytes = bytes + request.between.iter().map(|one| one.len()).sum::<usize>();
    if request.between.len() + 2 > MAX_CHECKED {
        return Err(too_much("certificates", request.between.len() + 2, MAX_CHECKED));
    }
    if bytes > MAX_CHECKED_BYTES {
        return Err(too_much("bytes of certificates", bytes, MAX_CHECKED_BYTES));
    }
    let (anchor, certificate) = (parse(&request.anchor)?, parse(&request.certificate)?);
    let between = request.between.iter().map(|der| parse(der)).collect::<Result<Vec<_>, _>>()?;
    safe_ffi::without_error_queue(|| verify(anchor, &certificate, between)).map_err(|_| unreadable())
}

fn verify(anchor: X509, certificate: &X509Ref, between: Vec<X509>) -> Result<Issued, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(anchor)?;
    let mut parameters = X509VerifyParam::new()?;
    parameters.set_depth(MAX_CHECKED_DEPTH);
    store.set_param(&parameters)?;
    let mut chain = Stack::new()?;
    between.into_iter().try_for_each(|one| chain.push(one))?;
    X509StoreContext::new()?.init(&store.build(), certificate, &chain, |context| {
        let issued = context.verify_cert()?;
        let reason = if issued { String::new() } else { context.error().error_string().to_owned() };
        Ok(Issued { issued, reason })
    })
}
