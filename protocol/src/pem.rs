//! The public blocks of a PEM file, picked out of it piece by piece: no other byte of the file is kept, so that a file
//! with a private key can be read by a process that must not have one.

use zeroize::Zeroizing;

/// Labels of certificates; the first is the usual one.
pub const CERTIFICATE_LABELS: &[&str] = &["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];
/// Labels of revocation lists.
pub const CRL_LABELS: &[&str] = &["X509 CRL"];
/// Labels of Diffie-Hellman parameters.
pub const DH_LABELS: &[&str] = &["DH PARAMETERS", "X9.42 DH PARAMETERS"];
/// How much of a file is read at a time, in bytes: into a buffer that is wiped.
pub const PEM_PIECE: usize = 16 << 10;

/// How every label of a private key ends: `RSA PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`, `OPENSSH PRIVATE KEY`.
const KEY: &str = "PRIVATE KEY";
/// What stands round a label.
const DASHES: u8 = 5;
/// The longest line between dashes that is looked at, in bytes: `BEGIN `, or `END `, and a label.
const LONGEST_MARK: usize = 70;

/// What is done about a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnKey {
    /// Nothing behind its first line is looked at.
    Refuse,
    /// It is passed over.
    Skip,
}

/// Why a PEM file is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// It has a private key in it.
    #[error("it has a private key in it")]
    PrivateKey,
    /// A block that is wanted does not end as it began.
    #[error("a PEM block in it is not whole")]
    Unfinished,
}

/// Picks the blocks with certain labels.
pub struct PemBlocks {
    labels: &'static [&'static str],
    on_key: OnKey,
    scan: Scan,
    /// What is between the dashes now. It is never a part of a block's content.
    mark: Zeroizing<Vec<u8>>,
    /// The block that has begun, with its label.
    open: Option<(&'static str, Vec<u8>)>,
    found: Vec<Vec<u8>>,
}

/// Where the scan is.
#[derive(Clone, Copy)]
enum Scan {
    /// Between marks, behind so many dashes.
    Text(u8),
    /// Behind five dashes.
    Mark,
    /// In the dashes behind a mark.
    Closing(u8),
}

impl PemBlocks {
    /// Picks the blocks that have one of `labels`.
    #[must_use]
    pub fn new(labels: &'static [&'static str], on_key: OnKey) -> Self {
        let mark = Zeroizing::new(Vec::with_capacity(LONGEST_MARK));
        Self { labels, on_key, scan: Scan::Text(0), mark, open: None, found: Vec::new() }
    }

    /// Takes the next piece of the file.
    ///
    /// # Errors
    /// [`PemFault`]; the file is done with then.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), PemFault> {
        piece.iter().try_for_each(|byte| self.byte(*byte))
    }

    /// The blocks, each from its first dash to the newline behind its last.
    ///
    /// # Errors
    /// [`PemFault::Unfinished`] where the file ended within one.
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
                self.content(byte);
                Scan::Text(0)
            }
            // A line of dashes has an empty mark, however long it is.
            (Scan::Mark, b'-') if self.mark.is_empty() => Scan::Mark,
            (Scan::Mark, b'-') => Scan::Closing(1),
            (Scan::Mark, _) if is_of_mark(byte) && self.mark.len() < LONGEST_MARK => {
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

    fn content(&mut self, byte: u8) {
        if let Some((_, block)) = &mut self.open {
            block.push(byte);
        }
    }

    /// Dashes that belong to no mark: there are none within a block.
    fn no_mark(&mut self) -> Result<Scan, PemFault> {
        if self.open.is_some() { Err(PemFault::Unfinished) } else { Ok(Scan::Text(0)) }
    }

    /// A mark is whole.
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
            block.extend_from_slice(format!("-----{mark}-----\n").as_bytes());
            self.found.push(block);
        } else if let Some(label) = begins.and_then(|label| self.labels.iter().find(|own| **own == label)) {
            self.open = Some((label, format!("-----BEGIN {label}-----").into_bytes()));
        }
        Ok(())
    }
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

    /// Read whole, and byte by byte: the pieces make no difference.
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
    fn finding_3_a_certificate_without_its_end_does_not_take_a_key_with_it() {
        let key = block("PRIVATE KEY", "c2VjcmV0");
        for begun in
            ["-----BEGIN CERTIFICATE-----\nAA\n", "-----BEGIN CERTIFICATE-----\nAA\n-----END X-----\n"]
        {
            assert!(read(&format!("{begun}{key}"), OnKey::Refuse).is_err());
            assert_eq!(read(&format!("{begun}{key}"), OnKey::Skip), Err(PemFault::Unfinished));
            assert_eq!(read(begun, OnKey::Skip), Err(PemFault::Unfinished));
        }
        // Four dashes where five belong: no mark, and so no end of the block.
        let damaged = "-----BEGIN CERTIFICATE-----\nAA\n-----BEGIN PRIVATE KEY----\nc2VjcmV0\n";
        assert_eq!(read(damaged, OnKey::Refuse), Err(PemFault::Unfinished));
    }
}
