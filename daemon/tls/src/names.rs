//! Host names: how they are written, and which identity answers to the one that a client asks for (SNI, RFC 6066).

use std::collections::HashMap;
use std::net::IpAddr;

/// A host that a peer's certificate may have to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A DNS name, in lower case and without the root's dot.
    Name(String),
    /// An IP address.
    Address(IpAddr),
}

/// A text that is neither a host name nor an address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a host name nor an IP address (names beyond ASCII are given as xn--...)")]
pub(super) struct NoHost(String);

/// The longest name of the DNS.
const LONGEST: usize = 253;

impl Host {
    /// Reads a host as programs give it: brackets around an IPv6 address and its zone are taken off.
    pub(super) fn parse(text: &str) -> Result<Self, NoHost> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = bare.split_once('%').map_or(bare, |(address, _zone)| address);
        if let Ok(address) = address.parse() {
            return Ok(Self::Address(address));
        }
        let name = normal(text);
        let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'/' | b':' | b'@');
        // OpenSSL takes a leading dot for "any name below".
        let labels = name.split('.').all(|label| !label.is_empty());
        if !labels || name.len() > LONGEST || !name.bytes().all(allowed) {
            return Err(NoHost(text.chars().take(LONGEST).collect()));
        }
        Ok(Self::Name(name))
    }
}

/// A name as it is compared: in lower case, without the root's dot.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a server can be asked for by this name, or for names that this wildcard stands for: `www.example.org`,
/// `*.example.org`.
pub(super) fn is_server_name(text: &str) -> bool {
    matches!(Host::parse(text.strip_prefix("*.").unwrap_or(text)), Ok(Host::Name(_)))
}

/// From names and wildcards to what answers to them.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_name: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Adds what answers to a name or a wildcard such as `*.example.org`.
    pub(super) fn add(&mut self, name: &str, answer: usize) {
        let answers = self.by_name.entry(normal(name)).or_default();
        if !answers.contains(&answer) {
            answers.push(answer);
        }
    }

    /// Everything that answers to a name, in the order in which it was added. The name itself wins over a wildcard,
    /// which stands for one whole label (RFC 9525, 6.3).
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

#[cfg(test)]
mod tests {
    use super::{Host, Index, is_server_name};

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
}
