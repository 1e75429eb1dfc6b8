//! What a signature was made with beside the key: the nonce of ECDSA, which is worth the key, and the salt of PSS.
//! Whoever has the private key finds the one in a signature; the other everybody does who has the public key.

use crate::needles::{Needle, add_number, padded};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::{HasPublic, PKey, Private};
use openssl::rsa::Padding;

/// What to look for after a signature of an EC key over `message`: its nonce, and the nonce's inverse.
///
/// # Errors
/// Where the key is no EC key, or the signature none of ECDSA.
pub fn of_ecdsa(
    key: &PKey<Private>,
    digest: MessageDigest,
    message: &[u8],
    signature: &[u8],
) -> Result<Vec<Needle>, ErrorStack> {
    let mut needles = Vec::new();
    let nonce = nonce(key, digest, message, signature)?;
    let (mut order, mut context) = (BigNum::new()?, BigNumContext::new()?);
    let ec = key.ec_key()?;
    ec.group().order(&mut order, &mut context)?;
    let mut inverse = BigNum::new()?;
    inverse.mod_inverse(&nonce, &order, &mut context)?;
    add_number(&mut needles, "nonce", &padded(&nonce));
    add_number(&mut needles, "inverse of the nonce", &padded(&inverse));
    Ok(needles)
}

/// k = (z + r d) / s modulo the group's order (FIPS 186-5, 6.4.1).
fn nonce(
    key: &PKey<Private>,
    digest: MessageDigest,
    message: &[u8],
    signature: &[u8],
) -> Result<BigNum, ErrorStack> {
    let (ec, signature) = (key.ec_key()?, EcdsaSig::from_der(signature)?);
    let mut context = BigNumContext::new()?;
    let [mut order, mut product, mut sum, mut inverse, mut nonce] =
        [BigNum::new()?, BigNum::new()?, BigNum::new()?, BigNum::new()?, BigNum::new()?];
    ec.group().order(&mut order, &mut context)?;
    // No digest that TLS takes for a curve is longer than the order.
    let hashed = BigNum::from_slice(&hash(digest, message)?)?;
    product.mod_mul(signature.r(), ec.private_key(), &order, &mut context)?;
    sum.mod_add(&hashed, &product, &order, &mut context)?;
    inverse.mod_inverse(signature.s(), &order, &mut context)?;
    nonce.mod_mul(&sum, &inverse, &order, &mut context)?;
    Ok(nonce)
}

/// What to look for after a PSS signature: its salt.
///
/// # Errors
/// Where the key is no RSA key, or the signature none of it.
pub fn of_pss<T: HasPublic>(
    key: &PKey<T>,
    digest: MessageDigest,
    signature: &[u8],
) -> Result<Vec<Needle>, ErrorStack> {
    let (_, salt) = pss(key, digest, signature)?;
    Ok(vec![Needle { name: "salt of PSS".to_owned(), bytes: salt }])
}

/// The hash and the salt of an encoded message (RFC 8017, 9.1.2), the salt as long as the hash.
fn pss<T: HasPublic>(
    key: &PKey<T>,
    digest: MessageDigest,
    signature: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), ErrorStack> {
    let rsa = key.rsa()?;
    let mut encoded = vec![0; signature.len()];
    rsa.public_decrypt(signature, &mut encoded, Padding::NONE)?;
    let (rest, _) = encoded.split_at(encoded.len() - 1);
    let (masked, hashed) = rest.split_at(rest.len() - digest.size());
    let mask = mgf1(digest, hashed, masked.len())?;
    let block: Vec<u8> = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    Ok((hashed.to_vec(), block[block.len() - digest.size()..].to_vec()))
}

/// RFC 8017, B.2.1.
fn mgf1(digest: MessageDigest, seed: &[u8], length: usize) -> Result<Vec<u8>, ErrorStack> {
    let mut mask = Vec::new();
    for count in 0_u32.. {
        if mask.len() >= length {
            break;
        }
        mask.extend_from_slice(&hash(digest, &[seed, &count.to_be_bytes()].concat())?);
    }
    mask.truncate(length);
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::{EcGroup, EcKey, EcPoint};
    use openssl::nid::Nid;
    use openssl::rsa::Rsa;
    use openssl::sign::{RsaPssSaltlen, Signer};

    const MESSAGE: &[u8] = b"signed";

    #[test]
    fn the_nonce_gives_the_point_of_the_signature() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let digest = MessageDigest::sha256();
        let signature = Signer::new(digest, &key).unwrap().sign_oneshot_to_vec(MESSAGE).unwrap();
        let nonce = nonce(&key, digest, MESSAGE, &signature).unwrap();
        let mut context = BigNumContext::new().unwrap();
        let [mut x, mut order, mut r] = [(); 3].map(|()| BigNum::new().unwrap());
        let mut point = EcPoint::new(&group).unwrap();
        point.mul_generator2(&group, &nonce, &mut context).unwrap();
        point.affine_coordinates(&group, &mut x, &mut BigNum::new().unwrap(), &mut context).unwrap();
        group.order(&mut order, &mut context).unwrap();
        r.nnmod(&x, &order, &mut context).unwrap();
        assert_eq!(&r, EcdsaSig::from_der(&signature).unwrap().r());
        assert_eq!(of_ecdsa(&key, digest, MESSAGE, &signature).unwrap().len(), 6);
    }

    #[test]
    fn the_salt_gives_the_hash_of_the_signature() {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let digest = MessageDigest::sha256();
        let mut signer = Signer::new(digest, &key).unwrap();
        signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
        let signature = signer.sign_oneshot_to_vec(MESSAGE).unwrap();
        let (hashed, salt) = pss(&key, digest, &signature).unwrap();
        let message = [&[0; 8], &*hash(digest, MESSAGE).unwrap(), &salt].concat();
        assert_eq!(hashed, hash(digest, &message).unwrap().to_vec());
    }
}
