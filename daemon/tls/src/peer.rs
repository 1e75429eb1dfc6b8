//! Reading certificates: the peer's for its answer, names for SNI and for messages.

use super::names::{Host, normal};
use super::raw;
use super::verify::HOST_FLAGS;
use luassl_protocol::PeerCertificate;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::ssl::SslRef;
use openssl::x509::{GeneralNameRef, X509Ref};
use serde_bytes::ByteBuf;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The peer's certificate and what came with it; all empty where the peer sent none.
#[must_use]
pub fn peer_certificate(ssl: &SslRef) -> PeerCertificate {
    let Some(leaf) = ssl.peer_certificate() else { return PeerCertificate::default() };
    PeerCertificate {
        chain: chain(ssl, &leaf),
        pem: leaf.to_pem().map(|pem| String::from_utf8_lossy(&pem).into_owned()).unwrap_or_default(),
        subject: raw::name_text(leaf.subject_name()),
        issuer: raw::name_text(leaf.issuer_name()),
        names: alternative_names(&leaf),
        not_before: seconds(leaf.not_before()),
        not_after: seconds(leaf.not_after()),
        serial: serial(&leaf),
        sha1: fingerprint(&leaf, MessageDigest::sha1()),
        sha256: fingerprint(&leaf, MessageDigest::sha256()),
    }
}

/// Whether the peer's certificate carries a host name or an IP address (RFC 9525). It says nothing about whether the
/// certificate was verified.
#[must_use]
pub fn peer_matches(ssl: &SslRef, host: &str) -> bool {
    let (Some(leaf), Ok(host)) = (ssl.peer_certificate(), Host::parse(host)) else { return false };
    match host {
        Host::Name(name) => raw::quietly(|| raw::carries_host(&leaf, &name, HOST_FLAGS.bits())),
        Host::Address(address) => raw::quietly(|| raw::carries_address(&leaf, address)),
    }
}

/// What the peer sent, leaf first: OpenSSL leaves the leaf out on a server.
fn chain(ssl: &SslRef, leaf: &X509Ref) -> Vec<ByteBuf> {
    let sent = ssl.peer_cert_chain().into_iter().flatten().filter(|one| **one != *leaf);
    std::iter::once(leaf)
        .chain(sent)
        .filter_map(|certificate| certificate.to_der().ok())
        .map(ByteBuf::from)
        .collect()
}

/// The dNSName and iPAddress entries of a certificate.
pub(super) fn alternative_names(certificate: &X509Ref) -> Vec<String> {
    let names = raw::quietly(|| certificate.subject_alt_names());
    names.into_iter().flatten().filter_map(|name| text(&name)).collect()
}

fn text(name: &GeneralNameRef) -> Option<String> {
    let address = || address(name.ipaddress()?).map(|address| address.to_string());
    name.dnsname().map(str::to_owned).or_else(address)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into());
    v4().or_else(|_| v6()).ok()
}

/// The names that a certificate stands for, in lower case; its common name where it has no others.
pub(super) fn host_names(certificate: &X509Ref) -> Vec<String> {
    let names = alternative_names(certificate);
    if !names.is_empty() {
        return names.iter().map(|name| normal(name)).collect();
    }
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    common.filter_map(|entry| Some(normal(&entry.data().to_string().ok()?))).collect()
}

pub(super) fn seconds(time: &Asn1TimeRef) -> i64 {
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
