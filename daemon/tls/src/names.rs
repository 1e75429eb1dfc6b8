//! Host names: their syntax, and the identity for the name that a client requests (SNI, RFC 6066).

use crate::ffi::safe_ffi;
use openssl::nid::Nid;
use openssl::x509::verify::X509CheckFlags;
use openssl::x509::{GeneralNameRef, X509Ref};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host that the certificate of a peer may have to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A DNS name, in lower case and without the trailing dot.
    Name(String),
    /// An IP address.
    Address(IpAddr),
}

/// A text that is neither a host name nor an address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a host name nor an IP address (names beyond ASCII are given as xn--...)")]
pub(super) struct NoHost(String);

/// The length of the longest DNS name.
const LONGEST: usize = 253;

impl Host {
    /// Parses a host as programs specify it. Removes brackets around an IPv6 address, and its zone.
    pub(super) fn parse(text: &str) -> Result<Self, NoHost> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = bare.split_once('%').map_or(bare, |(address, _zone)| address);
        if let Ok(address) = address.parse() {
            return Ok(Self::Address(address));
        }
        let name = normal(text);
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'/' | b':' | b'@');
        // OpenSSL treats a leading dot as "any name below".
        let labels = name.split('.').all(|label| !label.is_empty());
        if !labels || name.len() > LONGEST || !name.bytes().all(allowed) {
            return Err(NoHost(text.chars().take(LONGEST).collect()));
        }
        Ok(Self::Name(name))
    }
}

/// Returns a name in its form for comparison: in lower case, without the trailing dot.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Returns whether a client can request this server name, or names that this wildcard matches: `www.example.org`,
/// `*.example.org`.
pub(super) fn is_server_name(text: &str) -> bool {
    matches!(Host::parse(text.strip_prefix("*.").unwrap_or(text)), Ok(Host::Name(_)))
}

/// A map from names and wildcards to answers.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_name: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Adds an answer for a name or a wildcard such as `*.example.org`.
    pub(super) fn add(&mut self, name: &str, answer: usize) {
        let answers = self.by_name.entry(normal(name)).or_default();
        if !answers.contains(&answer) {
            answers.push(answer);
        }
    }

    /// Returns all answers for a name, in the order in which they were added. The name itself takes precedence over a
    /// wildcard, which stands for one whole label (RFC 9525, 6.3).
    pub(super) fn find(&self, name: &str) -> &[usize] {
        let name = normal(name);
        let exact = self.by_name.get(&name);
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        };
        exact.or_else(wildcard).map_or(&[], Vec::as_slice)
    }
}

/// The flags for a comparison of names as RFC 9525 specifies: only alternative names, and wildcards only for whole
/// labels.
pub(super) const HOST_FLAGS: X509CheckFlags =
    X509CheckFlags::NO_PARTIAL_WILDCARDS.union(X509CheckFlags::NEVER_CHECK_SUBJECT);

/// Returns the dNSName and iPAddress entries of a certificate.
pub(super) fn alternative_names(certificate: &X509Ref) -> Vec<String> {
    let names = safe_ffi::without_error_queue(|| certificate.subject_alt_names());
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

/// Returns the names that a certificate is valid for, in lower case. If it has no other names, returns its common name.
pub(super) fn host_names(certificate: &X509Ref) -> Vec<String> {
    let names = alternative_names(certificate);
    if !names.is_empty() {
        return names.iter().map(|name| normal(name)).collect();
    }
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    common.filter_map(|entry| Some(normal(&entry.data().to_string().ok()?))).collect()
}

/// Returns the host name of a server_name extension (RFC 6066, 3), which is a list with one name of each type.
pub(super) fn name_in(extension: &[u8]) -> Option<&[u8]> {
    let (length, list) = extension.split_first_chunk()?;
    let ([0], entry) = list.get(..usize::from(u16::from_be_bytes(*length)))?.split_first_chunk()? else {
        return None;
    };
    let (length, name) = entry.split_first_chunk()?;
    name.get(..usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use crate::names::{Host, Index, is_server_name, name_in};

    #[test]
    fn a_name_wins_over_a_wildcard_of_one_label() {
        let mut index = Index::default();
        index.add("*.Example.org", 1);
        index.add("www.example.org", 2);
        assert_eq!(index.find("www.EXAMPLE.org."), [2]);
        assert_eq!(index.find("mail.example.org"), [1]);
        assert_eq!(index.find("a.b.example.org"), [] as [usize; 0]);
        assert_eq!(index.find("example.org"), [] as [usize; 0]);
    }

    #[test]
    fn several_answers_keep_their_order() {
        let mut index = Index::default();
        index.add("a.test", 3);
        index.add("a.test", 1);
        index.add("a.test", 3);
        assert_eq!(index.find("a.test"), [3, 1]);
    }

    #[test]
    fn a_wildcard_is_one_whole_label_in_front_of_a_name() {
        for good in ["www.example.org", "*.example.org", "localhost", "Example.ORG.", "a_b.test"] {
            assert!(is_server_name(good), "{good}");
        }
        for bad in ["*", "", "*.", "*.*.org", "a.*.org", "w*.example.org", ".example.org", "192.0.2.1", "::1"]
        {
            assert!(!is_server_name(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_are_no_names() {
        assert_eq!(Host::parse("::1").unwrap(), Host::Address("::1".parse().unwrap()));
        assert_eq!(Host::parse("[fe80::1%eth0]").unwrap(), Host::Address("fe80::1".parse().unwrap()));
        assert_eq!(Host::parse("192.0.2.1").unwrap(), Host::Address("192.0.2.1".parse().unwrap()));
        assert_eq!(Host::parse("Example.ORG.").unwrap(), Host::Name("example.org".to_owned()));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            ".example.org",
            "a..b",
            "a b",
            "a\0b",
            "m\u{fc}nchen.de",
            "*.example.org",
            "http://a",
            &"a".repeat(300),
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_name_of_a_server_name_extension_is_found() {
        assert_eq!(name_in(b"\0\x06\0\0\x03a.b"), Some(&b"a.b"[..]));
        for broken in
            [&b""[..], b"\0", b"\0\x06\0\0\x03a.", b"\0\x05\0\0\x03a.b", b"\0\x06\x01\0\x03a.b", b"\0\0"]
        {
            assert_eq!(name_in(broken), None, "{broken:?}");
        }
    }
}
