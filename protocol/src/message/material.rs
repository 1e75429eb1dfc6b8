//! Filters the PEM files that are sent. No message contains key bytes, independent of the files that a
//! program names.

use std::borrow::Cow;

const BEGIN: &[u8] = b"-----BEGIN ";
const KEY: &[u8] = b"PRIVATE KEY";
const DASHES: &[u8] = b"-----";

/// Returns whether the beginning of a PEM private key is anywhere in `pem`.
#[must_use]
pub fn holds_private_key(pem: &[u8]) -> bool {
    pem.split(|byte| *byte == b'\n').any(begins_key)
}

/// Returns the PEM without its private keys. As with LuaSSL, a program may use one file for the key and the
/// chain. All lines from the first line of a key to its last, or to the end if the last line is missing, are
/// removed.
#[must_use]
pub fn without_private_keys(pem: &[u8]) -> Cow<'_, [u8]> {
    if !holds_private_key(pem) {
        return Cow::Borrowed(pem);
    }
    let mut in_key = false;
    let mut kept = Vec::new();
    for line in pem.split_inclusive(|byte| *byte == b'\n') {
        let begins = begins_key(line);
        in_key |= begins;
        if !in_key {
            kept.extend_from_slice(line);
        }
        // A line that begins a key may contain the end of another block before it.
        in_key &= begins || !line.trim_ascii_start().starts_with(b"-----END ");
    }
    Cow::Owned(kept)
}

/// Returns whether a key begins anywhere in the line. In files that were joined without a newline, a key
/// begins after the end of another block.
fn begins_key(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(at) = find(BEGIN, rest) {
        rest = &rest[at + BEGIN.len()..];
        if find(DASHES, rest).is_some_and(|end| rest[..end].ends_with(KEY)) {
            return true;
        }
    }
    false
}

fn find(wanted: &[u8], text: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn key(label: &str) -> String {
        format!("-----BEGIN {label}-----\nBBBB\n-----END {label}-----\n")
    }

    #[test]
    fn keys_of_every_kind_are_left_out_and_certificates_stay() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            let pem = format!("{CERTIFICATE}{}{CERTIFICATE}", key(label));
            assert!(holds_private_key(pem.as_bytes()));
            let public = without_private_keys(pem.as_bytes());
            assert_eq!(public, format!("{CERTIFICATE}{CERTIFICATE}").as_bytes(), "{label}");
            assert!(!holds_private_key(&public));
        }
    }

    #[test]
    fn a_key_without_an_end_takes_the_rest_with_it() {
        let pem = format!("{CERTIFICATE}  -----BEGIN PRIVATE KEY-----\r\nBBBB\n");
        assert_eq!(without_private_keys(pem.as_bytes()), CERTIFICATE.as_bytes());
    }

    #[test]
    fn finding_3_a_key_on_the_line_of_another_blocks_end_does_not_stay() {
        let pem = format!("{}{}", CERTIFICATE.trim_end(), key("PRIVATE KEY"));
        assert!(holds_private_key(pem.as_bytes()));
        assert!(!String::from_utf8_lossy(&without_private_keys(pem.as_bytes())).contains("BBBB"));
        assert!(holds_private_key(pem.replace('\n', "\r").as_bytes()));
    }

    #[test]
    fn a_file_without_a_key_is_not_copied() {
        assert!(matches!(without_private_keys(CERTIFICATE.as_bytes()), Cow::Borrowed(_)));
    }
}
