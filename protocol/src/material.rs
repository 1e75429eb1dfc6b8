//! What of a PEM file may cross: no message carries key bytes, whatever file a program names.

use std::borrow::Cow;

const KEY_LABEL: &[u8] = b"PRIVATE KEY-----";

/// Whether there is the beginning of a PEM private key anywhere in `pem`.
#[must_use]
pub fn holds_private_key(pem: &[u8]) -> bool {
    pem.split(|byte| *byte == b'\n').any(begins_key)
}

/// The same PEM without its private keys: for a program that names one file for key and chain, as LuaSSL's did.
/// Everything from a key's first line to its last, or to the end where that is missing, is left out.
#[must_use]
pub fn without_private_keys(pem: &[u8]) -> Cow<'_, [u8]> {
    if !holds_private_key(pem) {
        return Cow::Borrowed(pem);
    }
    let mut in_key = false;
    let mut kept = Vec::new();
    for line in pem.split_inclusive(|byte| *byte == b'\n') {
        in_key |= begins_key(line);
        if !in_key {
            kept.extend_from_slice(line);
        }
        in_key &= !line.trim_ascii_start().starts_with(b"-----END ");
    }
    Cow::Owned(kept)
}

fn begins_key(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"-----BEGIN ")
        && line.windows(KEY_LABEL.len()).any(|window| window == KEY_LABEL)
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
    fn a_file_without_a_key_is_not_copied() {
        assert!(matches!(without_private_keys(CERTIFICATE.as_bytes()), Cow::Borrowed(_)));
    }
}
