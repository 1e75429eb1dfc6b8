//! Certificates and CRLs from PEM, block by block, so that a bad block does not hide the good ones.

use crate::ffi::safe_ffi;
use crate::verify::peer_keys::{self, KeyFault};
use luassl_protocol::{ErrorCode, Failure, Reason};
use openssl::x509::{X509, X509Crl};

/// What a PEM text held.
pub(crate) struct Read<T> {
    /// What could be read, in order.
    pub(crate) found: Vec<T>,
    /// Blocks of the right kind that could not be read.
    pub(crate) bad: usize,
    /// The key of one of them, where that is why.
    pub(crate) fault: Option<KeyFault>,
}

impl<T> Read<T> {
    /// Everything, where each block was good and there was at least one.
    ///
    /// # Errors
    /// A failure that names `what`.
    pub(crate) fn all(self, what: &str) -> Result<Vec<T>, Failure> {
        if let Some(fault) = self.fault {
            return Err(invalid(format!("{what}: a certificate has {fault}")));
        }
        if self.bad > 0 {
            return Err(invalid(format!("{what}: a PEM block cannot be read")).because(Reason::Pem));
        }
        if self.found.is_empty() {
            return Err(invalid(format!("{what}: no PEM block of that kind")).because(Reason::Pem));
        }
        Ok(self.found)
    }
}

/// The certificates in `pem`.
pub(crate) fn certificates(pem: &[u8]) -> Read<X509> {
    read(pem, &[CERTIFICATE, X509_CERTIFICATE, "TRUSTED CERTIFICATE"], |label, block| {
        let der = der(label, block).ok_or(Unreadable(None))?;
        peer_keys::check_certificate(&der).map_err(|fault| Unreadable(Some(fault)))?;
        X509::from_der(&der).map_err(|_| Unreadable(None))
    })
}

/// The certificate revocation lists in `pem`.
pub(crate) fn revocation_lists(pem: &[u8]) -> Read<X509Crl> {
    read(pem, &["X509 CRL"], |_, block| X509Crl::from_pem(block).map_err(|_| Unreadable(None)))
}

/// The first certificate in `pem`, as DER.
pub(crate) fn first_certificate(pem: &[u8]) -> Option<Vec<u8>> {
    blocks(pem).find_map(|(label, block)| der(label, block))
}

const CERTIFICATE: &str = "CERTIFICATE";
const X509_CERTIFICATE: &str = "X509 CERTIFICATE";

/// A certificate's block as DER: what is parsed is then what was looked at. A trusted certificate is none, since what it is
/// trusted for would be lost.
fn der(label: &str, block: &[u8]) -> Option<Vec<u8>> {
    if ![CERTIFICATE, X509_CERTIFICATE].contains(&label) {
        return None;
    }
    let text = block.get(BEGIN.len() + label.len() + DASHES.len()..)?;
    let text: Vec<u8> =
        text[..find(text, END)?].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    safe_ffi::without_error_queue(|| openssl::base64::decode_block(std::str::from_utf8(&text).ok()?).ok())
}

/// A block that is not taken, for the sake of its key perhaps.
struct Unreadable(Option<KeyFault>);

fn read<T>(pem: &[u8], labels: &[&str], parse: impl Fn(&str, &[u8]) -> Result<T, Unreadable>) -> Read<T> {
    let mut read = Read { found: Vec::new(), bad: 0, fault: None };
    for (label, block) in blocks(pem) {
        if labels.contains(&label) {
            match parse(label, block) {
                Ok(one) => read.found.push(one),
                Err(Unreadable(fault)) => {
                    read.bad += 1;
                    // What cannot be found is told by the count.
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
