//! Certificates and CRLs from PEM, block by block, so that a bad block does not hide the good ones.

use crate::ffi::safe_ffi;
use crate::verify::peer_keys::{self, KeyFault};
use luassl_protocol::{ErrorCode, Failure, FailureReason};
use openssl::x509::{X509, X509Crl};

/// The content of a PEM text.
pub(crate) struct Read<T> {
    /// The items that could be read, in order.
    pub(crate) found: Vec<T>,
    /// The number of blocks of the right kind that could not be read.
    pub(crate) bad: usize,
    /// The fault of a key, if that is why a block could not be read.
    pub(crate) fault: Option<KeyFault>,
}

impl<T> Read<T> {
    /// Returns all items, if every block was good and there was at least one.
    ///
    /// # Errors
    /// A failure that names `what`.
    pub(crate) fn all(self, what: &str) -> Result<Vec<T>, Failure> {
        if let Some(fault) = self.fault {
            return Err(invalid(format!("{what}: a certificate has {fault}")));
        }
        if self.bad > 0 {
            return Err(invalid(format!("{what}: a PEM block cannot be read")).because(FailureReason::Pem));
        }
        if self.found.is_empty() {
            return Err(invalid(format!("{what}: no PEM block of that kind")).because(FailureReason::Pem));
        }
        Ok(self.found)
    }
}

/// Reads the certificates in `pem`.
pub(crate) fn certificates(pem: &[u8]) -> Read<X509> {
    read(pem, &[CERTIFICATE, X509_CERTIFICATE, "TRUSTED CERTIFICATE"], |label, block| {
        let der = der(label, block).ok_or(Unreadable(None))?;
        peer_keys::check_certificate(&der).map_err(|fault| Unreadable(Some(fault)))?;
        X509::from_der(&der).map_err(|_| Unreadable(None))
    })
}

/// Reads the certificate revocation lists in `pem`.
pub(crate) fn revocation_lists(pem: &[u8]) -> Read<X509Crl> {
    read(pem, &["X509 CRL"], |_, block| X509Crl::from_pem(block).map_err(|_| Unreadable(None)))
}

/// Returns the first certificate in `pem`, as DER.
pub(crate) fn first_certificate(pem: &[u8]) -> Option<Vec<u8>> {
    blocks(pem).find_map(|(label, block)| der(label, block))
}

const CERTIFICATE: &str = "CERTIFICATE";
const X509_CERTIFICATE: &str = "X509 CERTIFICATE";

/// Returns the block of a certificate as DER, so that the parsed bytes are the checked bytes. A trusted certificate is
/// not accepted, because its trust settings would be lost.
fn der(label: &str, block: &[u8]) -> Option<Vec<u8>> {
    if ![CERTIFICATE, X509_CERTIFICATE].contains(&label) {
        return None;
    }
    let text = block.get(BEGIN.len() + label.len() + DASHES.len()..)?;
    let text: Vec<u8> =
        text[..find(text, END)?].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    safe_ffi::without_error_queue(|| openssl::base64::decode_block(std::str::from_utf8(&text).ok()?).ok())
}

/// A block that is not accepted, with the fault of its key if there is one.
struct Unreadable(Option<KeyFault>);

fn read<T>(pem: &[u8], labels: &[&str], parse: impl Fn(&str, &[u8]) -> Result<T, Unreadable>) -> Read<T> {
    let mut read = Read { found: Vec::new(), bad: 0, fault: None };
    for (label, block) in blocks(pem) {
        if labels.contains(&label) {
            match parse(label, block) {
                Ok(one) => read.found.push(one),
                Err(Unreadable(fault)) => {
                    read.bad += 1;
                    // The count already reports a key that cannot be found.
                    read.fault = read.fault.or(fault.filter(|fault| *fault != KeyFault::NotFound));
                }
            }
        }
    }
    read
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Returns each block with its label, from its first dash to its last.
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

/// Returns an upper bound on the number of blocks of any kind.
pub(crate) fn count(pem: &[u8]) -> usize {
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
    use crate::verify::pem::blocks;

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
