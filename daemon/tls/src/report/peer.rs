//! Reads certificates: the peer's for the answer, and names for SNI and for messages.

use crate::ffi::safe_ffi;
use crate::names::{HOST_FLAGS, Host, alternative_names};
use luassl_protocol::PeerCertificate;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::hash::MessageDigest;
use openssl::ssl::SslRef;
use openssl::x509::X509Ref;
use serde_bytes::ByteBuf;
use std::fmt::Write as _;

/// Returns the peer's certificate and the certificates sent with it. All fields are empty if the peer sent none.
#[must_use]
pub fn peer_certificate(ssl: &SslRef) -> PeerCertificate {
    let Some(leaf) = ssl.peer_certificate() else { return PeerCertificate::default() };
    PeerCertificate {
        chain: chain(ssl, &leaf),
        pem: leaf.to_pem().map(|pem| String::from_utf8_lossy(&pem).into_owned()).unwrap_or_default(),
        subject: safe_ffi::name_text(leaf.subject_name()),
        issuer: safe_ffi::name_text(leaf.issuer_name()),
        names: alternative_names(&leaf),
        not_before: seconds(leaf.not_before()),
        not_after: seconds(leaf.not_after()),
        serial: serial(&leaf),
        sha1: fingerprint(&leaf, MessageDigest::sha1()),
        sha256: fingerprint(&leaf, MessageDigest::sha256()),
    }
}

/// Returns whether the peer's certificate carries a host name or an IP address (RFC 9525). The result does not depend
/// on whether the certificate was verified.
#[must_use]
pub fn peer_matches(ssl: &SslRef, host: &str) -> bool {
    let (Some(leaf), Ok(host)) = (ssl.peer_certificate(), Host::parse(host)) else { return false };
    match host {
        Host::Name(name) => {
            safe_ffi::without_error_queue(|| safe_ffi::carries_host(&leaf, &name, HOST_FLAGS.bits()))
        }
        Host::Address(address) => safe_ffi::without_error_queue(|| safe_ffi::carries_address(&leaf, address)),
    }
}

/// Returns the certificates that the peer sent, leaf first. OpenSSL leaves the leaf out on a server.
fn chain(ssl: &SslRef, leaf: &X509Ref) -> Vec<ByteBuf> {
    let sent = ssl.peer_cert_chain().into_iter().flatten().filter(|one| **one != *leaf);
    std::iter::once(leaf)
        .chain(sent)
        .filter_map(|certificate| certificate.to_der().ok())
        .map(ByteBuf::from)
        .collect()
}

pub(crate) fn seconds(time: &Asn1TimeRef) -> i64 {
    let since = Asn1Time::from_unix(0).and_then(|start| start.diff(time));
    since.map_or(0, |since| i64::from(since.days) * 86_400 + i64::from(since.secs))
}

fn serial(certificate: &X509Ref) -> String {
    let number = certificate.serial_number().to_bn().and_then(|number| number.to_hex_str());
    number.map(|text| text.to_string()).unwrap_or_default()
}

fn fingerprint(certificate: &X509Ref, digest: MessageDigest) -> String {
    let mut text = String::new();
    for byte in certificate.digest(digest).iter().flat_map(|digest| digest.iter()) {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
