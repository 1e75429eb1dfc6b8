//! Certificates and CRLs from PEM, block by block, so that a bad block does not hide the good ones.

use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::x509::{X509, X509Crl};

/// What a PEM text held.
pub(super) struct Read<T> {
    /// What could be read, in order.
    pub(super) found: Vec<T>,
    /// Blocks of the right kind that could not be read.
    pub(super) bad: usize,
}

impl<T> Read<T> {
    /// Everything, where each block was good and there was at least one.
    ///
    /// # Errors
    /// A failure that names `what`.
    pub(super) fn all(self, what: &str) -> Result<Vec<T>, Failure> {
        if self.bad > 0 {
            return Err(invalid(format!("{what}: a PEM block cannot be read")));
        }
        if self.found.is_empty() {
            return Err(invalid(format!("{what}: no PEM block of that kind")));
        }
        Ok(self.found)
    }
}

/// The certificates in `pem`.
pub(super) fn certificates(pem: &[u8]) -> Read<X509> {
    read(pem, &["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"], X509::from_pem)
}

/// The certificate revocation lists in `pem`.
pub(super) fn revocation_lists(pem: &[u8]) -> Read<X509Crl> {
    read(pem, &["X509 CRL"], X509Crl::from_pem)
}

fn read<T>(pem: &[u8], labels: &[&str], parse: fn(&[u8]) -> Result<T, ErrorStack>) -> Read<T> {
    let mut read = Read { found: Vec::new(), bad: 0 };
    for (label, block) in blocks(pem) {
        if labels.contains(&label) {
            match parse(block) {
                Ok(one) => read.found.push(one),
                Err(_) => read.bad += 1,
            }
        }
    }
    read
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Each block with its label, from its first dash to its last.
fn blocks(pem: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut rest = pem;
    std::iter::from_fn(move || {
        let block = &rest[find(rest, BEGIN)?..];
        let after = &block[BEGIN.len()..];
        let label = &after[..find(after, DASHES)?];
        let end = find(block, END)?;
        let tail = &block[end + END.len()..];
        let close = find(tail, DASHES)? + DASHES.len();
        rest = &tail[close..];
        Some((std::str::from_utf8(label).unwrap_or(""), &block[..end + END.len() + close]))
    })
}

/// How many blocks there may be, of whatever kind.
pub(super) fn count(pem: &[u8]) -> usize {
    let mut rest = pem;
    let begins = std::iter::from_fn(|| {
        rest = &rest[find(rest, BEGIN)? + BEGIN.len()..];
        Some(())
    });
    begins.count()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn invalid(message: String) -> Failure {
    Failure::new(ErrorCode::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn blocks_are_found_between_other_text() {
        let pem = b"subject=x\n-----BEGIN A-----\nAA\n-----END A-----\ntext\n-----BEGIN B C-----\n-----END B C-----";
        let found: Vec<_> = blocks(pem).collect();
        assert_eq!(found[0], ("A", &b"-----BEGIN A-----\nAA\n-----END A-----"[..]));
        assert_eq!(found[1], ("B C", &b"-----BEGIN B C-----\n-----END B C-----"[..]));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_block_without_its_end_is_none() {
        assert_eq!(blocks(b"-----BEGIN A-----\nAA").count(), 0);
        assert_eq!(blocks(b"-----BEGIN A").count(), 0);
        assert_eq!(blocks(b"").count(), 0);
    }
}
