//! Extracts the public blocks of a PEM file, piece by piece. No other byte of the file is kept. A process
//! that must not have a private key can therefore read a file that contains one.

use zeroize::Zeroizing;

/// Labels of certificates; the first is the usual one.
pub const CERTIFICATE_LABELS: &[&str] = &["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];
/// Labels of revocation lists.
pub const CRL_LABELS: &[&str] = &["X509 CRL"];
/// Labels of Diffie-Hellman parameters.
pub const DH_LABELS: &[&str] = &["DH PARAMETERS", "X9.42 DH PARAMETERS"];
/// The number of bytes that are read at a time, into a buffer that is wiped.
pub const PEM_PIECE: usize = 16 << 10;

/// The end of every label of a private key: `RSA PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`, `OPENSSH PRIVATE
/// KEY`.
const KEY: &str = "PRIVATE KEY";
/// The number of dashes on each side of a label.
const DASHES: u8 = 5;
/// The maximum length of the text between dashes that is parsed, in bytes: `BEGIN ` or `END `, and a label.
const MAX_MARK: usize = 70;

/// The treatment of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnKey {
    /// Reading stops at the first line of the key.
    Refuse,
    /// The key is skipped.
    Skip,
}

/// The reason why a PEM file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// It contains a private key.
    #[error("it contains a private key")]
    PrivateKey,
    /// A block with the label of a certificate or CRL contains a private key.
    #[error("it contains a private key under another label")]
    CalledOtherwise,
    /// A requested block is incomplete, or its END label differs.
    #[error("it contains an incomplete PEM block")]
    Unfinished,
}

/// Extracts the blocks with certain labels.
pub struct PemBlocks {
    labels: &'static [&'static str],
    on_key: OnKey,
    scan: Scan,
    /// The current text between the dashes. It is never a part of a block's content.
    mark: Zeroizing<Vec<u8>>,
    /// The block that has begun, with its label.
    open: Option<(&'static str, Vec<u8>)>,
    /// The first characters of its content, until they are checked.
    first: Option<Vec<u8>>,
    found: Vec<Vec<u8>>,
}

/// The state of the scan.
#[derive(Clone, Copy)]
enum Scan {
    /// Between marks, after this number of dashes.
    Text(u8),
    /// After five dashes.
    Mark,
    /// In the dashes after a mark.
    Closing(u8),
}

impl PemBlocks {
    /// Creates an extractor for the blocks that have one of `labels`.
    #[must_use]
    pub fn new(labels: &'static [&'static str], on_key: OnKey) -> Self {
        let mark = Zeroizing::new(Vec::with_capacity(MAX_MARK));
        Self { labels, on_key, scan: Scan::Text(0), mark, open: None, first: None, found: Vec::new() }
    }

    /// Processes the next piece of the file.
    ///
    /// # Errors
    /// Returns [`PemFault`] if the file is refused; no further piece may follow.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), PemFault> {
        piece.iter().try_for_each(|byte| self.byte(*byte))
    }

    /// Returns the blocks, each from its first dash to the newline after its last.
    ///
    /// # Errors
    /// Returns [`PemFault::Unfinished`] if the file ended within a block.
    pub fn finish(self) -> Result<Vec<Vec<u8>>, PemFault> {
        if self.open.is_some() { Err(PemFault::Unfinished) } else { Ok(self.found) }
    }

    fn byte(&mut self, byte: u8) -> Result<(), PemFault> {
        self.scan = match (self.scan, byte) {
            (Scan::Text(dashes), b'-') if dashes + 1 == DASHES => {
                self.mark.clear();
                Scan::Mark
            }
            (Scan::Text(dashes), b'-') => Scan::Text(dashes + 1),
            (Scan::Text(0), _) => {
                self.content(byte)?;
                Scan::Text(0)
            }
            // A line of dashes has an empty mark, independent of its length.
            (Scan::Mark, b'-') if self.mark.is_empty() => Scan::Mark,
            (Scan::Mark, b'-') => Scan::Closing(1),
            (Scan::Mark, _) if is_of_mark(byte) && self.mark.len() < MAX_MARK => {
                self.mark.push(byte);
                Scan::Mark
            }
            (Scan::Closing(dashes), b'-') if dashes + 1 == DASHES => {
                self.marked()?;
                Scan::Text(0)
            }
            (Scan::Closing(dashes), b'-') => Scan::Closing(dashes + 1),
            (Scan::Text(_) | Scan::Mark | Scan::Closing(_), _) => self.no_mark()?,
        };
        Ok(())
    }

    fn content(&mut self, byte: u8) -> Result<(), PemFault> {
        let Some((_, block)) = &mut self.open else { return Ok(()) };
        block.push(byte);
        if let Some(first) = self.first.as_mut().filter(|_| !byte.is_ascii_whitespace()) {
            first.push(byte);
            if first.len() == FIRST {
                return self.check_first();
            }
        }
        Ok(())
    }

    /// Refuses a private key with another label. It is detected before more than its header is kept.
    fn check_first(&mut self) -> Result<(), PemFault> {
        match self.first.take() {
            Some(first) if begins_as_key(&decoded(&first)) => Err(PemFault::CalledOtherwise),
            _ => Ok(()),
        }
    }

    /// Handles dashes outside a mark, which a block must not contain.
    fn no_mark(&mut self) -> Result<Scan, PemFault> {
        if self.open.is_some() { Err(PemFault::Unfinished) } else { Ok(Scan::Text(0)) }
    }

    /// Handles a complete mark.
    fn marked(&mut self) -> Result<(), PemFault> {
        let mark = std::str::from_utf8(&self.mark).unwrap_or_default();
        let begins = mark.strip_prefix("BEGIN ");
        if self.on_key == OnKey::Refuse && begins.is_some_and(|label| label.ends_with(KEY)) {
            return Err(PemFault::PrivateKey);
        }
        if let Some((label, mut block)) = self.open.take() {
            if mark.strip_prefix("END ") != Some(label) {
                return Err(PemFault::Unfinished);
            }
            if self.first.take().is_some_and(|first| begins_as_key(&decoded(&first))) {
                return Err(PemFault::CalledOtherwise);
            }
            block.extend_from_slice(format!("-----{mark}-----\n").as_bytes());
            self.found.push(block);
        } else if let Some(label) = begins.and_then(|label| self.labels.iter().find(|own| **own == label)) {
            self.open = Some((label, format!("-----BEGIN {label}-----").into_bytes()));
            // Parameters have no signature, and begin like a key.
            self.first = (!DH_LABELS.contains(label)).then(Vec::new);
        }
        Ok(())
    }
}

/// The number of base64 characters that are checked: the header of a key, without secret parts.
const FIRST: usize = 16;

/// Decodes base64, up to the first invalid character.
fn decoded(text: &[u8]) -> Vec<u8> {
    let value = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let values: Vec<u32> = text.iter().map_while(value).collect();
    let group = |four: &[u32]| {
        let sum = four.iter().fold(0, |sum, value| sum << 6 | value);
        sum.to_be_bytes()[1..].to_vec()
    };
    values.chunks_exact(4).flat_map(group).collect()
}

/// Returns whether DER begins like a private key. PKCS#8, PKCS#1 and SEC1 are a SEQUENCE that begins with an
/// INTEGER. In an encrypted key, the first element of the SEQUENCE is a SEQUENCE that begins with an OBJECT
/// IDENTIFIER. Certificates and revocation lists begin with a SEQUENCE that begins with a version, a number
/// or a SEQUENCE.
fn begins_as_key(der: &[u8]) -> bool {
    const INTEGER: u8 = 2;
    const OBJECT_IDENTIFIER: u8 = 6;
    const SEQUENCE: u8 = 0x30;
    let Some(inner) = inside(der, SEQUENCE) else { return false };
    inner.first() == Some(&INTEGER)
        || inside(inner, SEQUENCE).is_some_and(|innermost| innermost.first() == Some(&OBJECT_IDENTIFIER))
}

/// Returns the bytes after the tag and the length of a DER value.
fn inside(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (first, rest) = der.split_first()?;
    let (form, rest) = rest.split_first()?;
    let octets = if *form < 0x80 { 0 } else { usize::from(form & 0x7f) };
    (*first == tag).then(|| rest.get(octets..)).flatten()
}

fn is_of_mark(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    /// Reads the text at once, and byte by byte: the size of the pieces makes no difference.
    fn read(text: &str, on_key: OnKey) -> Result<String, PemFault> {
        let of = |size: usize| {
            let mut blocks = PemBlocks::new(CERTIFICATE_LABELS, on_key);
            text.as_bytes().chunks(size).try_for_each(|piece| blocks.push(piece))?;
            blocks.finish().map(|found| String::from_utf8(found.concat()).expect("ASCII"))
        };
        let whole = of(usize::MAX);
        assert_eq!(of(1), whole);
        whole
    }

    #[test]
    fn certificates_are_picked_from_among_other_text() {
        let (one, two) = (block("CERTIFICATE", "AA=="), block("TRUSTED CERTIFICATE", "BB=="));
        let text = format!("subject=a-b\n--\n----------\n{one}{}text ---{two}", block("X509 CRL", "CC=="));
        assert_eq!(read(&text, OnKey::Refuse), Ok(format!("{one}{two}")));
        // Two files that were joined without a newline between them.
        let joined = format!("{}{two}", one.trim_end());
        assert_eq!(read(&joined, OnKey::Refuse), Ok(format!("{one}{two}")));
        assert_eq!(read("", OnKey::Refuse), Ok(String::new()));
    }

    #[test]
    fn finding_3_a_private_key_of_any_label_is_refused_or_passed_over() {
        let one = block("CERTIFICATE", "AA==");
        for kind in ["", "RSA ", "EC ", "DSA ", "ENCRYPTED ", "OPENSSH ", "ANY "] {
            let key = block(&format!("{kind}PRIVATE KEY"), "c2VjcmV0");
            for text in [
                format!("{key}{one}"),
                format!("{one}{key}"),
                format!("{}{key}", one.trim_end()),
                format!("{one}{key}").replace('\n', "\r\n"),
                format!("{one}{key}").replace('\n', "\r"),
            ] {
                assert_eq!(read(&text, OnKey::Refuse), Err(PemFault::PrivateKey), "{text}");
                let kept = read(&text, OnKey::Skip).expect("whole");
                assert!(kept.contains("AA==") && !kept.contains("c2VjcmV0"), "{kept}");
            }
        }
    }

    #[test]
    fn finding_3_a_private_key_that_is_called_a_certificate_is_refused_at_its_header() {
        // The first bytes of keys as the openssl command writes them: PKCS#8 of RSA, of P-256 and of Ed25519, PKCS#1, SEC1,
        // an encrypted one.
        let keys = [
            "MIIEvgIBADANBgkqhkiG9w0BAQEFAASC",
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49",
            "MC4CAQAwBQYDK2VwBCIEIA==",
            "MIIEpAIBAAKCAQEA0000000000000000",
            "MHcCAQEEIAAAAAAAAAAAAAAAAAAAAAAA",
            "MIIFLTBXBgkqhkiG9w0BBQ0wSjApBgkq",
        ];
        // The first bytes of a certificate of version 3, of one of version 1, and of a revocation list.
        let public = [
            "MIIDazCCAlOgAwIBAgIUNYYYYYYYYYYY",
            "MIIC0DCCAbgCFAYYYYYYYYYYYYYYYYYY",
            "MIIBtjCBnwIBATANBgkqhkiG9w0BAQsF",
        ];
        for label in ["CERTIFICATE", "TRUSTED CERTIFICATE"] {
            for key in keys {
                for on_key in [OnKey::Refuse, OnKey::Skip] {
                    assert_eq!(read(&block(label, key), on_key), Err(PemFault::CalledOtherwise), "{key}");
                }
            }
            for good in public {
                assert_eq!(read(&block(label, good), OnKey::Refuse), Ok(block(label, good)));
            }
        }
        // Bytes after the header are not kept.
        let mut blocks = PemBlocks::new(CERTIFICATE_LABELS, OnKey::Refuse);
        let begun = format!("-----BEGIN CERTIFICATE-----\n{}", keys[0]);
        assert_eq!(blocks.push(begun.as_bytes()), Err(PemFault::CalledOtherwise));
        let kept =
            blocks.open.map_or(0, |(label, block)| block.len() - label.len() - "-----BEGIN -----\n".len());
        assert_eq!(kept, FIRST);
        // DH parameters contain two numbers, and begin like a key.
        let parameters = block("DH PARAMETERS", "MIIBCAKCAQEA0000000000000000");
        let mut blocks = PemBlocks::new(DH_LABELS, OnKey::Refuse);
        blocks.push(parameters.as_bytes()).expect("parameters");
        assert_eq!(blocks.finish().map(|found| found.len()), Ok(1));
    }

    #[test]
    fn finding_3_a_certificate_without_its_end_does_not_take_a_key_with_it() {
        let key = block("PRIVATE KEY", "c2VjcmV0");
        for begun in
            ["-----BEGIN CERTIFICATE-----\nAA\n", "-----BEGIN CERTIFICATE-----\nAA\n-----END X-----\n"]
        {
            assert!(read(&format!("{begun}{key}"), OnKey::Refuse).is_err());
            assert_eq!(read(&format!("{begun}{key}"), OnKey::Skip), Err(PemFault::Unfinished));
            assert_eq!(read(begun, OnKey::Skip), Err(PemFault::Unfinished));
        }
        // Four dashes instead of five are not a mark, and therefore not the end of the block.
        let damaged = "-----BEGIN CERTIFICATE-----\nAA\n-----BEGIN PRIVATE KEY----\nc2VjcmV0\n";
        assert_eq!(read(damaged, OnKey::Refuse), Err(PemFault::Unfinished));
    }
}
