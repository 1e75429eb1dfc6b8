//! Checks public keys and certificates from peers and clients before libcrypto parses them.
//!
//! libcrypto computes while it parses: it takes a square root for a compressed point, and if the key defines its own
//! curve, the sender controls how long that takes. A peer's certificates are parsed before their trust is checked, and
//! are kept for the whole handshake. Therefore keys are checked, and certificates counted, in the bytes of the message.
//! The bytes are read in place and not copied.

use std::ffi::c_long;
use std::fmt;

/// The maximum number of certificates that a peer may send. A chain has two to five certificates. A parsed certificate
/// takes more than a kilobyte, even if it is short.
pub const MAX_CERTIFICATES: usize = 16;
/// The maximum bytes of a peer's certificates with their extensions (staples), as they are in the message. Chains have
/// 2 to 12 KiB. After parsing they take several times that, which is not charged to any account.
pub const MAX_BYTES: usize = 64 << 10;
/// The same limit for the whole message. Before the list, a message of TLS 1.3 has a context, and the length of the
/// list.
pub(crate) const MAX_MESSAGE: c_long = MAX_BYTES as c_long + 1 + 255 + 3;
/// The maximum number of DER elements in a peer's certificates. Each element takes up to a hundred bytes after parsing.
/// Most elements are names: the limit admits more than three thousand names.
const MAX_ELEMENTS: usize = 4096;
/// The maximum bits of an RSA modulus. Larger ones are not in use. With 16,384 bits, which is OpenSSL's own limit, a
/// long chain takes a tenth of a second to verify.
const RSA_MODULUS_BITS: usize = 8192;
/// The maximum bits of an RSA exponent. OpenSSL has this limit for moduli above 3,072 bits
/// (`OPENSSL_RSA_MAX_PUBEXP_BITS`). For smaller moduli, an exponent as long as the modulus makes each verification take
/// as long as a signature.
const RSA_EXPONENT_BITS: usize = 64;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// The tag of the version, which is absent in certificates of version 1.
const VERSION: u8 = 0xa0;
/// The bit of a tag whose element contains other elements.
const CONSTRUCTED: u8 = 0x20;
/// The bits of a tag that continues in the next byte.
const LONG_TAG: u8 = 0x1f;
/// The first byte of a point with both coordinates (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 0x04;

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const RSA_PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
/// The X.500 identifier of RSA, which OpenSSL also accepts.
const RSA_OF_X500: &[u8] = b"\x55\x08\x01\x01";
const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
/// The identifier of SM2. OpenSSL reads such a key like those of [`EC`].
const SM2: &[u8] = b"\x2a\x81\x1c\xcf\x55\x01\x82\x2d";

/// The reason why a public key is not parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// The certificate has no key at the expected position.
    NotFound,
    /// The curve is given by parameters and not by name.
    Curve,
    /// The point is compressed.
    Point,
    /// The RSA modulus is too long.
    Modulus,
    /// The RSA exponent is too long.
    Exponent,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => out.write_str("no public key in DER where a certificate has it"),
            Self::Curve => out.write_str(
                "an elliptic curve key with explicit parameters; it needs a key on a curve with a name",
            ),
            Self::Point => out
                .write_str("an elliptic curve key without an uncompressed point; it needs one in that form"),
            Self::Modulus => {
                write!(out, "an RSA key of more than {RSA_MODULUS_BITS} bits; it needs a smaller one")
            }
            Self::Exponent => write!(
                out,
                "an RSA key whose exponent has more than {RSA_EXPONENT_BITS} bits; it needs a smaller one"
            ),
        }
    }
}

/// The form of a Certificate message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RFC 5246, 7.4.2.
    Tls12,
    /// RFC 8446, 4.4.2.
    Tls13,
}

/// The reason why a Certificate message must not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFault {
    /// The certificates have more than [`MAX_BYTES`].
    Bytes,
    /// There are more than [`MAX_CERTIFICATES`].
    Certificates,
    /// There are more than `MAX_ELEMENTS`.
    Elements,
    /// The key of a certificate must not be parsed.
    Key(KeyFault),
}

impl fmt::Display for MessageFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => write!(out, "the peer sends more than {MAX_BYTES} bytes of certificates"),
            Self::Certificates => write!(out, "the peer sends more than {MAX_CERTIFICATES} certificates"),
            Self::Elements => {
                write!(out, "the peer sends certificates of more than {MAX_ELEMENTS} elements, names perhaps")
            }
            Self::Key(fault) => write!(out, "the peer sends a certificate that has {fault}"),
        }
    }
}

/// Checks whether the bytes after the header of a Certificate message (`body`) may be parsed. Besides the fault, the
/// error contains the offset in `body` of the three-byte length of the list.
///
/// libssl parses one certificate after the other until one is incomplete. This function does the same, whatever the
/// length of the list is.
///
/// # Errors
/// [`MessageFault`].
pub fn check_message(body: &[u8], form: Form) -> Result<(), (usize, MessageFault)> {
    let at = match (form, body.first()) {
        (Form::Tls12, _) => 0,
        (Form::Tls13, Some(context)) => 1 + usize::from(*context),
        (Form::Tls13, None) => return Ok(()),
    };
    // A message without a list is malformed, and libssl reports that before it parses anything.
    let Some(mut rest) = body.get(at + 3..) else { return Ok(()) };
    if rest.len() > MAX_BYTES {
        return Err((at, MessageFault::Bytes));
    }
    let (mut count, mut elements) = (0, 0);
    while let Some((certificate, behind)) = prefixed::<3>(rest) {
        count += 1;
        if count > MAX_CERTIFICATES {
            return Err((at, MessageFault::Certificates));
        }
        check_certificate(certificate).map_err(|fault| (at, MessageFault::Key(fault)))?;
        elements += elements_in(certificate, true);
        if elements > MAX_ELEMENTS {
            return Err((at, MessageFault::Elements));
        }
        rest = match form {
            Form::Tls12 => behind,
            Form::Tls13 => match prefixed::<2>(behind) {
                Some((_, behind)) => behind,
                None => break,
            },
        };
    }
    Ok(())
}

/// Returns the number of elements, including nested ones and those in the values of extensions. Bytes that are not DER
/// count as elements of the smallest size.
fn elements_in(der: &[u8], and_in_values: bool) -> usize {
    let (mut count, mut rest) = (0, der);
    while let Some(tag) = rest.first() {
        let read = if tag & LONG_TAG == LONG_TAG { None } else { element(*tag, rest) };
        let Some((content, behind)) = read else { return count + rest.len().div_ceil(2) };
        count += 1;
        if tag & CONSTRUCTED != 0 {
            // The content of the element comes next, and then the bytes after it.
            rest = &rest[rest.len() - behind.len() - content.len()..];
            continue;
        }
        if and_in_values && *tag == OCTET_STRING && content.first() == Some(&SEQUENCE) {
            count += elements_in(content, false);
        }
        rest = behind;
    }
    count
}

/// Returns the bytes after their length, and the rest.
fn prefixed<const OCTETS: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<OCTETS>()?;
    rest.split_at_checked(number(length))
}

/// Checks whether the key of a certificate may be parsed. Ignores bytes after the certificate.
///
/// # Errors
/// [`KeyFault`].
pub fn check_certificate(der: &[u8]) -> Result<(), KeyFault> {
    let (content, _) = take(SEQUENCE, der)?;
    let (signed, _) = take(SEQUENCE, content)?;
    let signed = element(VERSION, signed).map_or(signed, |(_, rest)| rest);
    // The serial number, algorithm, issuer, validity and subject.
    let key = [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]
        .iter()
        .try_fold(signed, |rest, tag| Ok(take(*tag, rest)?.1))?;
    check_key(key)
}

/// Checks whether a SubjectPublicKeyInfo may be parsed. Ignores bytes after it.
///
/// # Errors
/// [`KeyFault`].
pub fn check_key(der: &[u8]) -> Result<(), KeyFault> {
    let (content, _) = take(SEQUENCE, der)?;
    let (algorithm, rest) = take(SEQUENCE, content)?;
    let (name, parameters) = take(OBJECT, algorithm)?;
    // The first byte is the number of unused bits.
    let key = take(BIT_STRING, rest)?.0.get(1..).ok_or(KeyFault::NotFound)?;
    match name {
        EC | SM2 => match element(OBJECT, parameters) {
            Some((_, [])) if key.first() == Some(&UNCOMPRESSED) => Ok(()),
            Some((_, [])) => Err(KeyFault::Point),
            _ => Err(KeyFault::Curve),
        },
        RSA | RSA_PSS | RSA_OF_X500 => rsa(key),
        // For any other algorithm that an OpenSSL treats as an elliptic curve: its identifier may not be known here.
        _ if describes_curve(parameters) => Err(KeyFault::Curve),
        _ => Ok(()),
    }
}

/// Returns whether parameters begin as explicit curve parameters do: with a version and a field. Those of DSA and DH
/// are integers.
fn describes_curve(parameters: &[u8]) -> bool {
    let behind_version = element(SEQUENCE, parameters).and_then(|(content, _)| element(INTEGER, content));
    behind_version.is_some_and(|(_, rest)| rest.first() == Some(&SEQUENCE))
}

fn rsa(key: &[u8]) -> Result<(), KeyFault> {
    let (content, _) = take(SEQUENCE, key)?;
    let (modulus, rest) = take(INTEGER, content)?;
    let (exponent, _) = take(INTEGER, rest)?;
    if bits(modulus) > RSA_MODULUS_BITS {
        Err(KeyFault::Modulus)
    } else if bits(exponent) > RSA_EXPONENT_BITS {
        Err(KeyFault::Exponent)
    } else {
        Ok(())
    }
}

fn bits(integer: &[u8]) -> usize {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    let first = integer.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    (integer.len() - zeros) * 8 - first
}

fn take(tag: u8, bytes: &[u8]) -> Result<(&[u8], &[u8]), KeyFault> {
    element(tag, bytes).ok_or(KeyFault::NotFound)
}

/// Returns the content of an element with this tag, and the bytes after it. Lengths must have the shortest form, as DER
/// requires. An element that libcrypto would read differently is rejected.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, behind) = bytes.strip_prefix(&[tag])?.split_first()?;
    let octets = match first {
        0..=0x7f => return behind.split_at_checked(usize::from(*first)),
        // No certificate is long enough for a length of four octets.
        0x81..=0x83 => usize::from(first & 0x7f),
        _ => return None,
    };
    let (octets, behind) = behind.split_at_checked(octets)?;
    let length = number(octets);
    let shortest = length >= 0x80 && octets.first() != Some(&0);
    if shortest { behind.split_at_checked(length) } else { None }
}

fn number(octets: &[u8]) -> usize {
    octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::pki::{Authority, Kind, Wanted};
    use openssl::pkey::{Id, PKey};
    use openssl::x509::X509;
    use proptest::prelude::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = content.len().to_be_bytes();
        let head: &[u8] = match content.len() {
            0..0x80 => &[tag, low],
            0x80..0x100 => &[tag, 0x81, low],
            0x100..0x1_0000 => &[tag, 0x82, middle, low],
            _ => &[tag, 0x83, high, middle, low],
        };
        [head, content].concat()
    }

    fn key(name: &[u8], parameters: &[u8], bits: &[u8]) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &[&der(OBJECT, name), parameters].concat());
        der(SEQUENCE, &[algorithm, der(BIT_STRING, &[&[0], bits].concat())].concat())
    }

    fn rsa_key(name: &[u8], modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        key(name, &[5, 0], &der(SEQUENCE, &[der(INTEGER, modulus), der(INTEGER, exponent)].concat()))
    }

    /// Returns a certificate with an empty signature and empty names.
    fn certificate(version: &[u8], key: &[u8]) -> Vec<u8> {
        let empty = der(SEQUENCE, &[]);
        let signed = [version, &der(INTEGER, &[1]), &empty.repeat(4), key].concat();
        der(SEQUENCE, &[der(SEQUENCE, &signed), empty, der(BIT_STRING, &[0])].concat())
    }

    const V3: &[u8] = &[VERSION, 3, INTEGER, 1, 2];
    const P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
    /// Explicit parameters with a field of two bytes.
    const EXPLICIT: &[u8] = &[SEQUENCE, 11, INTEGER, 1, 1, SEQUENCE, 6, OBJECT, 1, 42, INTEGER, 1, 7];

    #[test]
    fn finding_8_keys_on_curves_without_a_name_and_compressed_points_are_refused() {
        let named = der(OBJECT, P256);
        let twice = named.repeat(2);
        for (name, parameters, first, expected) in [
            (EC, &named[..], 4, Ok(())),
            (SM2, &named, 4, Ok(())),
            (EC, &named, 2, Err(KeyFault::Point)),
            (EC, &named, 3, Err(KeyFault::Point)),
            (EC, &named, 6, Err(KeyFault::Point)),
            (SM2, &named, 0, Err(KeyFault::Point)),
            (EC, EXPLICIT, 4, Err(KeyFault::Curve)),
            (SM2, EXPLICIT, 4, Err(KeyFault::Curve)),
            (b"\x2a\x03", EXPLICIT, 4, Err(KeyFault::Curve)),
            (EC, &[5, 0], 4, Err(KeyFault::Curve)),
            (EC, &[], 4, Err(KeyFault::Curve)),
            (EC, &twice, 4, Err(KeyFault::Curve)),
            // Parameters of DSA: three integers.
            (b"\x2a\x03", &[SEQUENCE, 6, INTEGER, 1, 1, INTEGER, 1, 2], 4, Ok(())),
        ] {
            let key = key(name, parameters, &[first, 1, 2]);
            assert_eq!(check_key(&key), expected, "{name:x?} {parameters:x?} {first}");
            for version in [V3, &[]] {
                assert_eq!(check_certificate(&certificate(version, &key)), expected);
            }
        }
    }

    #[test]
    fn finding_8_rsa_keys_are_bounded() {
        let number = |bits: usize| {
            let mut bytes = vec![0xff; bits.div_ceil(8)];
            bytes[0] >>= bits.div_ceil(8) * 8 - bits;
            [vec![0], bytes].concat()
        };
        for name in [RSA, RSA_PSS, RSA_OF_X500] {
            for (modulus, exponent, expected) in [
                (8192, 64, Ok(())),
                (2048, 17, Ok(())),
                (8193, 17, Err(KeyFault::Modulus)),
                (2048, 65, Err(KeyFault::Exponent)),
            ] {
                assert_eq!(check_key(&rsa_key(name, &number(modulus), &number(exponent))), expected);
            }
        }
    }

    #[test]
    fn finding_8_a_key_that_is_not_in_der_is_not_looked_for() {
        let good = certificate(V3, &key(EC, &der(OBJECT, P256), &[4, 1, 2]));
        assert_eq!(check_certificate(&good), Ok(()));
        for cut in 0..good.len() {
            assert_eq!(check_certificate(&good[..cut]), Err(KeyFault::NotFound), "{cut}");
        }
        // The same content with a BER length: longer than necessary, and indefinite.
        let content = &good[2..];
        let length = u8::try_from(content.len()).unwrap();
        for head in [&[SEQUENCE, 0x81, length][..], &[SEQUENCE, 0x82, 0, length], &[SEQUENCE, 0x80]] {
            assert_eq!(check_certificate(&[head, content, &[0, 0]].concat()), Err(KeyFault::NotFound));
        }
    }

    fn list(form: Form, certificates: &[Vec<u8>]) -> Vec<u8> {
        let long = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..], bytes].concat();
        let extensions: &[u8] = if form == Form::Tls13 { &[0, 1, 9] } else { &[] };
        let all: Vec<u8> = certificates.iter().flat_map(|one| [&long(one), extensions].concat()).collect();
        let context: &[u8] = if form == Form::Tls13 { &[2, 8, 8] } else { &[] };
        [context, &long(&all)].concat()
    }

    #[test]
    fn finding_6_a_message_has_16_certificates_and_64_kib_at_most() {
        let good = certificate(V3, &key(EC, &der(OBJECT, P256), &[4, 1, 2]));
        let bad = certificate(V3, &key(EC, EXPLICIT, &[4, 1, 2]));
        let large = [good.clone(), vec![0; MAX_BYTES]].concat();
        for (form, at) in [(Form::Tls12, 0), (Form::Tls13, 3)] {
            let check = |all: &[Vec<u8>]| check_message(&list(form, all), form);
            assert_eq!(check(&[]), Ok(()));
            assert_eq!(check(&vec![good.clone(); 16]), Ok(()));
            assert_eq!(check(&vec![good.clone(); 17]), Err((at, MessageFault::Certificates)));
            assert_eq!(check(std::slice::from_ref(&large)), Err((at, MessageFault::Bytes)));
            let key = MessageFault::Key(KeyFault::Curve);
            assert_eq!(check(&[good.clone(), bad.clone()]), Err((at, key)));
            // libssl parses the certificates before the point where a message is truncated.
            let mut cut = list(form, &[bad.clone(), good.clone()]);
            cut.pop();
            assert_eq!(check_message(&cut, form), Err((at, key)));
            for length in 0..at + 3 {
                assert_eq!(check_message(&cut[..length], form), Ok(()));
            }
        }
    }

    #[test]
    fn finding_6_elements_of_certificates_are_counted_within_values_too() {
        let name = [0x82, 0];
        let in_value = |names: usize| der(OCTET_STRING, &der(SEQUENCE, &name.repeat(names)));
        assert_eq!(elements_in(&in_value(100), true), 102);
        assert_eq!(elements_in(&in_value(100), false), 1);
        assert_eq!(elements_in(&der(OCTET_STRING, &[4, 0]), true), 1);
        assert_eq!(elements_in(&[SEQUENCE, 4, SEQUENCE, 0, 0x82, 0, 2, 1, 1], true), 4);
        // An indefinite length, and a long tag.
        let indefinite = [&[SEQUENCE, 0x80][..], &name.repeat(100), &[0, 0]].concat();
        assert_eq!(elements_in(&indefinite, true), 102);
        assert_eq!(elements_in(&der(OCTET_STRING, &indefinite), true), 103);
        assert_eq!(elements_in(&[0x1f, 2, 0, 0x82, 0], true), 3);
        let with = |extra: &[u8]| {
            [certificate(V3, &key(EC, &der(OBJECT, P256), &[4, 1, 2])), extra.to_vec()].concat()
        };
        let check = |names: usize| check_message(&list(Form::Tls12, &[with(&in_value(names))]), Form::Tls12);
        assert_eq!(check(4000), Ok(()));
        assert_eq!(check(4096), Err((0, MessageFault::Elements)));
    }

    /// Returns the key of a certificate if the openssl crate can read it.
    fn readable(der: &[u8]) -> Option<PKey<openssl::pkey::Public>> {
        crate::without_error_queue(|| X509::from_der(der).and_then(|one| one.public_key()).ok())
    }

    /// Returns whether a key that OpenSSL has parsed costs no more than others. This is the opposite check.
    fn is_plain(key: &PKey<openssl::pkey::Public>) -> bool {
        match key.id() {
            Id::RSA => key.rsa().is_ok_and(|key| key.n().num_bits() <= 8192 && key.e().num_bits() <= 64),
            Id::EC => key.ec_key().is_ok_and(|key| {
                let flag = key.group().asn1_flag() == openssl::ec::Asn1Flag::NAMED_CURVE;
                flag && key.group().curve_name().is_some()
            }),
            _ => true,
        }
    }

    #[test]
    fn certificates_of_every_kind_of_key_pass() {
        for kind in Kind::ALL {
            let own = Authority::root().issue(&Wanted::leaf(&["a.test"]), &kind.generate());
            assert_eq!(check_certificate(&own.to_der().unwrap()), Ok(()), "{kind:?}");
        }
    }

    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let all: Vec<Vec<u8>> = Kind::ALL
            .map(|kind| Authority::root().issue(&Wanted::leaf(&["a.test"]), &kind.generate()))
            .iter()
            .map(|one| one.to_der().unwrap())
            .collect();
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        (prop::sample::select(all), changes).prop_map(|(mut der, changes)| {
            for (at, byte) in changes {
                let at = at.index(der.len());
                der[at] = byte;
            }
            der
        })
    }

    proptest! {
        /// A key that passes these checks and that OpenSSL can read also has no excessive cost in OpenSSL. No input
        /// causes a panic.
        #[test]
        fn finding_8_what_passes_is_plain_to_openssl(der in mutated(), random in prop::collection::vec(any::<u8>(), 0..300)) {
            if check_certificate(&der).is_ok() && let Some(key) = readable(&der) {
                prop_assert!(is_plain(&key));
            }
            for bytes in [&der, &random] {
                let _ = (check_certificate(bytes), check_key(bytes));
                for form in [Form::Tls12, Form::Tls13] {
                    if let Err((at, _)) = check_message(bytes, form) {
                        prop_assert!(at + 3 <= bytes.len(), "what is overwritten is in the message");
                    }
                }
            }
        }
    }
}
