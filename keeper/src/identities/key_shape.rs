//! Checks the encoding of a private key before libcrypto decodes it. libcrypto computes while it decodes: for example
//! the public half of a DSA key, or a key from a PBKDF2 iteration count, without a bound on their size. The check
//! accepts only supported kinds of keys, and bounds their integers and counts. It reads the bytes in place and copies
//! none.

use crate::identities::chain::{INTEGER, SEQUENCE, element, whole};
use crate::limits::{
    EC_KEY_MAX, PBKDF2_ITERATIONS_MAX, RSA_INTEGER_MAX, SCRYPT_MEMORY_MAX, SCRYPT_PARALLEL_MAX,
};

/// The form of a private key, as its PEM label names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 5958.
    Pkcs8,
    /// RFC 8017, A.1.2.
    Pkcs1,
    /// RFC 5915.
    Sec1,
    /// RFC 5958, 3: a PKCS#8 key in an encrypted form.
    Encrypted,
}

/// The algorithm of a key that may be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rsa,
    Ec,
    Ed25519,
    Ed448,
}

/// The reason why a key is not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShapeFault {
    /// Its encoding does not match its label.
    Malformed,
    /// The kind or the size is not supported.
    Unsupported(String),
}

const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
/// The parameters of an EC key within the key.
const PARAMETERS: u8 = 0xa0;

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const RSA_PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
const DSA: &[u8] = b"\x2a\x86\x48\xce\x38\x04\x01";
const EC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
const ED25519: &[u8] = b"\x2b\x65\x70";
const ED448: &[u8] = b"\x2b\x65\x71";
/// The arc of PKCS#5 (RFC 8018), which includes the algorithms of PBES1.
const PKCS5: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05";
const PBKDF2: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c";
const PBES2: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d";
/// The arc of PKCS#12 (RFC 7292, appendix C), whose algorithms are encoded as those of PBES1.
const PKCS12: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01";
const SCRYPT: &[u8] = b"\x2b\x06\x01\x04\x01\xda\x47\x04\x0b";

/// The number of integers of a two-prime RSA key after the version.
const RSA_INTEGERS: usize = 8;

impl Form {
    /// Returns the form that a PEM label stands for.
    ///
    /// # Errors
    /// [`ShapeFault::Unsupported`] for a kind that is not supported.
    pub(crate) fn of_label(label: &[u8]) -> Result<Self, ShapeFault> {
        match label {
            b"PRIVATE KEY" => Ok(Self::Pkcs8),
            b"RSA PRIVATE KEY" => Ok(Self::Pkcs1),
            b"EC PRIVATE KEY" => Ok(Self::Sec1),
            b"ENCRYPTED PRIVATE KEY" => Ok(Self::Encrypted),
            b"DSA PRIVATE KEY" => Err(dsa()),
            _ => Err(unsupported("this kind of key is not supported")),
        }
    }
}

/// Returns the algorithm of an unencrypted key if the key may be decoded.
///
/// # Errors
/// [`ShapeFault`].
pub(crate) fn check(form: Form, bytes: &[u8]) -> Result<Algorithm, ShapeFault> {
    match form {
        Form::Pkcs8 => pkcs8(bytes),
        Form::Pkcs1 => rsa(bytes),
        Form::Sec1 => ec(bytes, true),
        Form::Encrypted => Err(ShapeFault::Malformed),
    }
}

/// Checks whether an encrypted PKCS#8 key may be decrypted. The cost of deriving a key from its passphrase is bounded.
///
/// # Errors
/// [`ShapeFault`].
pub(crate) fn check_encryption(bytes: &[u8]) -> Result<(), ShapeFault> {
    let (algorithm, _) = take(SEQUENCE, take_whole(bytes)?)?;
    let (name, parameters) = take(OBJECT, algorithm)?;
    let parameters = take_whole(parameters)?;
    if name == PBES2 {
        let (derivation, _) = take(SEQUENCE, parameters)?;
        let (name, parameters) = take(OBJECT, derivation)?;
        return derives(name, take_whole(parameters)?);
    }
    let pbes1 = |family| name.strip_prefix(family).is_some_and(|rest: &[u8]| rest.len() == 1);
    if name != PBKDF2 && (pbes1(PKCS5) || pbes1(PKCS12)) {
        return iterates(parameters);
    }
    Err(unsupported("a key that is encrypted otherwise than by PBES1 or PBES2 is not supported"))
}

fn derives(name: &[u8], parameters: &[u8]) -> Result<(), ShapeFault> {
    match name {
        PBKDF2 => iterates(parameters),
        SCRYPT => scrypt(parameters),
        _ => Err(unsupported("a key that is encrypted with neither PBKDF2 nor scrypt is not supported")),
    }
}

/// Checks the salt and the iteration count, which have the same place in PBES1 and PBKDF2.
fn iterates(parameters: &[u8]) -> Result<(), ShapeFault> {
    let (_, rest) = take(OCTET_STRING, parameters)?;
    let (count, _) = number(rest)?;
    if count <= PBKDF2_ITERATIONS_MAX {
        return Ok(());
    }
    Err(ShapeFault::Unsupported(format!(
        "a key that is encrypted with more than {PBKDF2_ITERATIONS_MAX} iterations is not supported"
    )))
}

fn scrypt(parameters: &[u8]) -> Result<(), ShapeFault> {
    let (_, rest) = take(OCTET_STRING, parameters)?;
    let (cost, rest) = number(rest)?;
    let (block, rest) = number(rest)?;
    let (parallel, _) = number(rest)?;
    let memory = cost.saturating_mul(block).saturating_mul(128);
    if memory <= SCRYPT_MEMORY_MAX && parallel <= SCRYPT_PARALLEL_MAX {
        return Ok(());
    }
    Err(ShapeFault::Unsupported(format!(
        "a key that is encrypted with scrypt of more than {SCRYPT_MEMORY_MAX} bytes or {SCRYPT_PARALLEL_MAX} \
         in parallel is not supported"
    )))
}

fn pkcs8(bytes: &[u8]) -> Result<Algorithm, ShapeFault> {
    let (_, rest) = take(INTEGER, take_whole(bytes)?)?;
    let (algorithm, rest) = take(SEQUENCE, rest)?;
    let (name, parameters) = take(OBJECT, algorithm)?;
    let known = match name {
        RSA => Algorithm::Rsa,
        EC => Algorithm::Ec,
        ED25519 => Algorithm::Ed25519,
        ED448 => Algorithm::Ed448,
        RSA_PSS => return Err(unsupported("an RSA key restricted to PSS is not supported")),
        DSA => return Err(dsa()),
        _ => return Err(unsupported("this kind of key is not supported")),
    };
    let (key, _) = take(OCTET_STRING, rest)?;
    match known {
        Algorithm::Rsa => rsa(key),
        Algorithm::Ec => named(parameters).and_then(|()| ec(key, false)),
        Algorithm::Ed25519 | Algorithm::Ed448 => Ok(known),
    }
}

/// Checks a version and eight integers, each of bounded length.
fn rsa(bytes: &[u8]) -> Result<Algorithm, ShapeFault> {
    let (version, mut rest) = number(take_whole(bytes)?)?;
    if version != 0 {
        return Err(unsupported("an RSA key of more than two primes is not supported"));
    }
    for index in 0..RSA_INTEGERS {
        let (integer, behind) = take(INTEGER, rest)?;
        if integer.len() > RSA_INTEGER_MAX {
            return Err(long_integer(index, integer));
        }
        rest = behind;
    }
    if rest.is_empty() { Ok(Algorithm::Rsa) } else { Err(ShapeFault::Malformed) }
}

/// The first integer is the modulus, whose size is the size of the key.
fn long_integer(index: usize, integer: &[u8]) -> ShapeFault {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    let first = integer.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = ((integer.len() - zeros) * 8).saturating_sub(first);
    ShapeFault::Unsupported(match index {
        0 => format!("an RSA key of {bits} bits is not supported"),
        _ => format!("an RSA key with a number of {bits} bits is not supported"),
    })
}

/// Checks a version, the private half, and the curve. The curve may be missing if the algorithm identifier has it.
fn ec(bytes: &[u8], alone: bool) -> Result<Algorithm, ShapeFault> {
    if bytes.len() > EC_KEY_MAX {
        return Err(ShapeFault::Unsupported(format!(
            "an EC key of more than {EC_KEY_MAX} bytes is not supported"
        )));
    }
    let (_, rest) = take(INTEGER, take_whole(bytes)?)?;
    let (_, rest) = take(OCTET_STRING, rest)?;
    match element(PARAMETERS, rest) {
        Some((parameters, _)) => named(parameters)?,
        None if alone => return Err(unsupported("an EC key without a named curve is not supported")),
        None => {}
    }
    Ok(Algorithm::Ec)
}

/// Checks whether the parameters are the name of a curve and nothing else.
fn named(parameters: &[u8]) -> Result<(), ShapeFault> {
    match element(OBJECT, parameters) {
        Some((_, [])) => Ok(()),
        _ => Err(unsupported("an EC key without a named curve is not supported")),
    }
}

/// Returns a non-negative integer and the bytes after it. An integer that is too large becomes the largest `u64`.
fn number(bytes: &[u8]) -> Result<(u64, &[u8]), ShapeFault> {
    let (integer, rest) = take(INTEGER, bytes)?;
    if integer.first().is_none_or(|first| *first >= 0x80) {
        return Err(ShapeFault::Malformed);
    }
    let fold = |sum: u64, byte: &u8| sum.checked_mul(256)?.checked_add(u64::from(*byte));
    Ok((integer.iter().try_fold(0, fold).unwrap_or(u64::MAX), rest))
}

fn take(tag: u8, bytes: &[u8]) -> Result<(&[u8], &[u8]), ShapeFault> {
    element(tag, bytes).ok_or(ShapeFault::Malformed)
}

fn take_whole(bytes: &[u8]) -> Result<&[u8], ShapeFault> {
    whole(bytes).ok_or(ShapeFault::Malformed)
}

fn dsa() -> ShapeFault {
    unsupported("DSA is not supported, as no current TLS peer supports it")
}

fn unsupported(what: &str) -> ShapeFault {
    ShapeFault::Unsupported(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMS: [Form; 4] = [Form::Pkcs8, Form::Pkcs1, Form::Sec1, Form::Encrypted];

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let [.., high, low] = content.len().to_be_bytes();
        [&[tag, 0x82, high, low], content].concat()
    }

    /// Generates elements with shortest-form lengths, so that random input gets past the first checks.
    fn nested() -> impl Strategy<Value = Vec<u8>> {
        let tag = || prop::sample::select(vec![INTEGER, OCTET_STRING, OBJECT, SEQUENCE, PARAMETERS]);
        let names = [RSA, RSA_PSS, DSA, EC, ED25519, ED448, PBKDF2, PBES2, PKCS5, PKCS12, SCRYPT];
        let name = prop::sample::select(names.map(<[u8]>::to_vec).to_vec());
        let short = |tag, content: Vec<u8>| match u8::try_from(content.len()) {
            Ok(len @ 0..0x80) => [vec![tag, len], content].concat(),
            Ok(len) => [vec![tag, 0x81, len], content].concat(),
            Err(_) => der(tag, &content),
        };
        let leaf = prop_oneof![
            name.prop_map(move |name| short(OBJECT, name)),
            (tag(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(move |(tag, all)| short(tag, all)),
        ];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            (tag(), prop::collection::vec(inner, 0..10)).prop_map(move |(tag, all)| short(tag, all.concat()))
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(random in prop::collection::vec(any::<u8>(), 0..300), built in nested()) {
            for bytes in [random, built] {
                for form in FORMS {
                    drop(check(form, &bytes));
                }
                drop(check_encryption(&bytes));
                drop(Form::of_label(&bytes));
            }
        }
    }

    #[test]
    fn scrypt_is_bounded_by_its_memory() {
        let parameters = |cost: &[u8], parallel: u8| {
            let numbers = [&[0x02, 4][..], cost, &[0x02, 1, 8, 0x02, 1, parallel]].concat();
            [&[0x04, 1, 0][..], &numbers].concat()
        };
        assert_eq!(scrypt(&parameters(&[0, 1, 0, 0], 16)), Ok(()));
        assert!(matches!(scrypt(&parameters(&[0, 1, 0, 1], 16)), Err(ShapeFault::Unsupported(_))));
        assert!(matches!(scrypt(&parameters(&[0, 1, 0, 0], 17)), Err(ShapeFault::Unsupported(_))));
        assert!(matches!(scrypt(&parameters(&[0x7f, 0, 0, 0], 1)), Err(ShapeFault::Unsupported(_))));
    }
}
