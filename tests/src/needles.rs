//! The byte strings by which a private key gives itself away in memory.

use openssl::bn::BigNumRef;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};

/// Secret numbers are looked for piece by piece, so that a part of one that was left behind is found too.
const PIECE: usize = 32;

/// One byte string that no process without the key can have.
#[derive(Clone, PartialEq, Eq)]
pub struct Needle {
    /// What it is, such as `p, big-endian`.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Everything to look for: each secret number of the first private key in `pem` in each byte order and as limbs, and
/// the key's PEM text.
///
/// # Errors
/// Where `pem` has no private key that OpenSSL reads.
pub fn of_pem(pem: &[u8]) -> Result<Vec<Needle>, ErrorStack> {
    #[expect(clippy::disallowed_methods, reason = "the scanner has to know the key that it looks for")]
    let key = PKey::private_key_from_pem(pem)?;
    let mut needles = Vec::new();
    for (name, value) in secrets(&key)? {
        add_number(&mut needles, name, &value);
    }
    add_text(&mut needles, pem);
    Ok(needles)
}

/// The secret values, big-endian.
fn secrets(key: &PKey<Private>) -> Result<Vec<(&'static str, Vec<u8>)>, ErrorStack> {
    if let Ok(rsa) = key.rsa() {
        let factors =
            [("p", rsa.p()), ("q", rsa.q()), ("dp", rsa.dmp1()), ("dq", rsa.dmq1()), ("qinv", rsa.iqmp())];
        let mut values = vec![("d", padded(rsa.d()))];
        values.extend(factors.into_iter().filter_map(|(name, value)| Some((name, padded(value?)))));
        return Ok(values);
    }
    if key.id() == Id::EC {
        return Ok(vec![("scalar", padded(key.ec_key()?.private_key()))]);
    }
    Ok(vec![("seed", key.raw_private_key()?)])
}

/// Whole 64-bit limbs, as a bignum library keeps them.
pub(crate) fn padded(number: &BigNumRef) -> Vec<u8> {
    let bytes = number.to_vec();
    let mut value = vec![0; bytes.len().next_multiple_of(8) - bytes.len()];
    value.extend(bytes);
    value
}

pub(crate) fn add_number(needles: &mut Vec<Needle>, name: &str, big_endian: &[u8]) {
    let little_endian: Vec<u8> = big_endian.iter().rev().copied().collect();
    // On this machine limbs are little-endian words: least significant limb first they are the little-endian
    // bytes, most significant limb first they are something else again.
    let limbs: Vec<u8> = big_endian.chunks(8).flat_map(|limb| limb.iter().rev().copied()).collect();
    for (order, bytes) in [("big-endian", big_endian), ("little-endian", &little_endian), ("limbs", &limbs)] {
        for piece in bytes.chunks_exact(PIECE) {
            needles.push(Needle { name: format!("{name}, {order}"), bytes: piece.to_vec() });
        }
    }
}

/// The lines of the key's PEM block.
fn add_text(needles: &mut Vec<Needle>, pem: &[u8]) {
    let text = String::from_utf8_lossy(pem);
    let lines = text
        .lines()
        .skip_while(|line| !(line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY")))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"));
    for line in lines.filter(|line| line.len() >= PIECE) {
        needles.push(Needle { name: "PEM text".to_owned(), bytes: line.as_bytes().to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::rsa::Rsa;

    #[test]
    fn an_rsa_key_has_six_numbers_in_three_orders_and_its_text() {
        let pem = Rsa::generate(2048).unwrap().private_key_to_pem().unwrap();
        let needles = of_pem(&pem).unwrap();
        for name in ["d", "p", "q", "dp", "dq", "qinv"] {
            for order in ["big-endian", "little-endian", "limbs"] {
                assert!(needles.iter().any(|needle| needle.name == format!("{name}, {order}")));
            }
        }
        assert!(needles.iter().any(|needle| needle.name == "PEM text"));
    }

    #[test]
    fn an_elliptic_curve_key_has_its_scalar() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let needles = of_pem(&key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        assert_eq!(needles.iter().filter(|needle| needle.name.starts_with("scalar")).count(), 3);
    }

    #[test]
    fn an_ed25519_key_has_its_seed() {
        let key = PKey::generate_ed25519().unwrap();
        let needles = of_pem(&key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        assert!(needles.iter().any(|needle| needle.bytes == key.raw_private_key().unwrap()));
    }
}
