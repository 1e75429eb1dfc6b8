//! The keeper sends certificates as they are, and the supervisor and the fronts parse them. This module checks only the
//! structure of a certificate at fixed positions (RFC 5280, 4.1), so that no private key labelled as a certificate
//! reaches a front. It also checks whether a certificate contains a given public key.

/// The bytes are not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its encoding is invalid")]
pub(crate) struct NoCertificate;

pub(crate) const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
pub(crate) const SEQUENCE: u8 = 0x30;
/// The tag of the version, which is absent in certificates of version 1.
const VERSION: u8 = 0xa0;

/// Checks whether `bytes` are a sequence of a signed part, an algorithm and a signature, and whether the signed part
/// begins with an integer, an algorithm and a name. A private key (PKCS#8, PKCS#1 or SEC1, encrypted or not) has an
/// integer or an algorithm identifier at that position.
///
/// # Errors
/// [`NoCertificate`].
pub(crate) fn check(bytes: &[u8]) -> Result<(), NoCertificate> {
    let certificate = whole(bytes).and_then(|content| elements(content, &[SEQUENCE, SEQUENCE, BIT_STRING]));
    certificate.filter(|rest| rest.is_empty()).ok_or(NoCertificate)?;
    let signed = whole(bytes).and_then(|content| element(SEQUENCE, content)).ok_or(NoCertificate)?.0;
    let numbered = element(VERSION, signed).map_or(signed, |(_, rest)| rest);
    elements(numbered, &[INTEGER, SEQUENCE, SEQUENCE]).map(drop).ok_or(NoCertificate)
}

/// Returns the certificates with the one that contains the public key first. The others keep their order. Returns
/// `None` if no certificate contains the public key.
pub(crate) fn leaf_first(public_key: &[u8], mut certificates: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let has = |bytes: &Vec<u8>| bytes.windows(public_key.len()).any(|part| part == public_key);
    let index = certificates.iter().position(has)?;
    certificates.get_mut(..=index)?.rotate_right(1);
    Some(certificates)
}

/// Returns the content of a sequence that ends with `bytes`.
pub(crate) fn whole(bytes: &[u8]) -> Option<&[u8]> {
    element(SEQUENCE, bytes).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// Returns the bytes after elements with these tags.
fn elements<'a>(bytes: &'a [u8], tags: &[u8]) -> Option<&'a [u8]> {
    tags.iter().try_fold(bytes, |rest, tag| Some(element(*tag, rest)?.1))
}

/// Returns the content of an element with this tag, and the bytes after it. Lengths must have the shortest form, as DER
/// requires.
pub(crate) fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, behind) = bytes.strip_prefix(&[tag])?.split_first()?;
    let octets = match first {
        0..=0x7f => return behind.split_at_checked(usize::from(*first)),
        // No file is long enough for a length of four octets.
        0x81..=0x83 => usize::from(first & 0x7f),
        _ => return None,
    };
    let (octets, behind) = behind.split_at_checked(octets)?;
    let length = octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
    let shortest = length >= 0x80 && octets.first() != Some(&0);
    if shortest { behind.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = vec![tag];
        let [.., high, middle, low] = length.to_be_bytes();
        match length {
            0..0x80 => bytes.push(low),
            0x80..0x100 => bytes.extend([0x81, low]),
            0x100..0x1_0000 => bytes.extend([0x82, middle, low]),
            _ => bytes.extend([0x83, high, middle, low]),
        }
        [bytes, content.to_vec()].concat()
    }

    /// Returns bytes with the structure of a certificate and no other content of one.
    fn certificate(start: &[u8], end: &[u8]) -> Vec<u8> {
        let named = [start, &der(INTEGER, &[7]), &der(SEQUENCE, b"?"), &der(SEQUENCE, b"?"), end].concat();
        der(SEQUENCE, &[der(SEQUENCE, &named), der(SEQUENCE, b"?"), der(BIT_STRING, b"?")].concat())
    }

    #[test]
    fn what_is_built_as_a_certificate_is_taken_whatever_is_in_it() {
        let version = der(VERSION, &der(INTEGER, &[2]));
        for size in [0, 1, 100, 120, 200, 240, 300, 60_000, 70_000] {
            for start in [&version[..], b""] {
                assert_eq!(check(&certificate(start, &vec![0xff; size])), Ok(()), "{size}");
            }
        }
    }

    #[test]
    fn finding_17_no_private_key_is_handed_out_as_a_certificate() {
        let (secret, algorithm) = (der(0x04, &[0x5a; 200]), der(SEQUENCE, &der(0x06, &[0x2a])));
        let pkcs8 = der(SEQUENCE, &[der(INTEGER, &[0]), algorithm.clone(), secret.clone()].concat());
        let encrypted = der(SEQUENCE, &[algorithm.clone(), secret.clone()].concat());
        let signed = der(BIT_STRING, &[0]);
        let keys = [
            pkcs8.clone(),
            encrypted.clone(),
            // SEC1 and PKCS#1
            der(SEQUENCE, &[der(INTEGER, &[1]), secret.clone()].concat()),
            der(SEQUENCE, &[der(INTEGER, &[0]), der(INTEGER, &[0x5a; 256]), der(INTEGER, &[3])].concat()),
            // Each of these is at the position of the signed part of a certificate.
            der(SEQUENCE, &[pkcs8, algorithm.clone(), signed.clone()].concat()),
            der(SEQUENCE, &[encrypted, algorithm, signed].concat()),
            b"-----BEGIN PRIVATE KEY-----\n".to_vec(),
        ];
        for key in keys {
            assert_eq!(check(&key), Err(NoCertificate), "{key:?}");
        }
    }

    #[test]
    fn what_is_cut_or_has_more_behind_it_is_refused() {
        let good = certificate(b"", &[0xff; 300]);
        for len in 0..good.len() {
            assert_eq!(check(&good[..len]), Err(NoCertificate), "{len}");
        }
        assert_eq!(check(&[&good[..], &[0][..]].concat()), Err(NoCertificate));
        // A length that does not have the shortest form.
        assert_eq!(check(&[&[SEQUENCE, 0x83, 0][..], &good[2..]].concat()), Err(NoCertificate));
    }

    #[test]
    fn the_one_with_the_key_comes_first_and_the_others_keep_their_order() {
        let given = || ["one", "two key", "three", "four key"].map(|text| text.as_bytes().to_vec()).to_vec();
        let first = |key: &[u8]| leaf_first(key, given()).map(|all| all.concat());
        assert_eq!(first(b"key").as_deref(), Some(&b"two keyonethreefour key"[..]));
        assert_eq!(first(b"one").as_deref(), Some(&b"onetwo keythreefour key"[..]));
        assert_eq!(first(b"five"), None);
    }
}
