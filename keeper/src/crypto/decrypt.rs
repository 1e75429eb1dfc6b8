//! RSA key exchange of TLS 1.2 (RFC 5246, 7.4.7.1) with implicit rejection. The result has 48 bytes. They are the
//! secret, or, if the padding or the version is wrong, bytes that depend only on the key, the version and the
//! ciphertext. The same request always has the same answer, and every answer begins with the version, so that neither
//! one answer nor the comparison of several answers reveals whether the padding is good. The raw RSA result stays in
//! libcrypto's memory, and is examined without a branch.

use crate::crypto::key::PrivateKey;
use crate::crypto::object::{CryptoError, Owned};
use crate::crypto::secret::SecretFile;
use luassl_keeper_ipc::front::PRE_MASTER;
use openssl_sys as ffi;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::hint::black_box;
use std::ptr;
use zeroize::Zeroizing;

unsafe extern "C" {
    fn EVP_PKEY_get_bn_param(
        key: *const ffi::EVP_PKEY,
        name: *const c_char,
        number: *mut *mut ffi::BIGNUM,
    ) -> c_int;
    fn HMAC(
        digest: *const ffi::EVP_MD,
        key: *const c_void,
        key_len: c_int,
        data: *const u8,
        data_len: usize,
        mac: *mut u8,
        mac_len: *mut c_uint,
    ) -> *mut u8;
}

/// Separates the values that are derived from the private exponent here from any other values derived from it.
const LABEL: &[u8] = b"luassl implicit rejection 1";

/// The length of HMAC-SHA-256, in bytes.
const MAC: usize = 32;

/// The shortest header before the secret in a good block: 0, 2, padding without a zero, 0 (RFC 8017, 7.2.1). The
/// padding has at least 8 bytes.
const HEAD_MIN: usize = 11;

impl PrivateKey {
    /// Returns the number of bytes in a ciphertext for an RSA key.
    pub(crate) fn modulus_len(&self) -> usize {
        // SAFETY: the key is live.
        usize::try_from(unsafe { ffi::EVP_PKEY_get_size(self.as_ptr()) }).unwrap_or(0)
    }

    /// Returns the pre-master secret in `ciphertext`, whose first bytes must be `version`, or replacement bytes.
    ///
    /// # Errors
    /// [`CryptoError`] for a key that is not RSA, and for a ciphertext that is not an integer below the modulus.
    pub(crate) fn pre_master(
        &self,
        version: u16,
        ciphertext: &[u8],
        secret: &mut [u8; PRE_MASTER],
    ) -> Result<(), CryptoError> {
        let block = self.raw_block(ciphertext)?;
        let other = self.replacement(version, ciphertext)?;
        choose(block.bytes(), version, &other, secret);
        Ok(())
    }

    /// Performs the RSA operation without checking the padding.
    fn raw_block(&self, ciphertext: &[u8]) -> Result<SecretFile, CryptoError> {
        // SAFETY: the key is live; the context takes its own reference, and is freed by its function.
        let context = unsafe {
            Owned::new(ffi::EVP_PKEY_CTX_new(self.as_ptr(), ptr::null_mut()), ffi::EVP_PKEY_CTX_free)?
        };
        SecretFile::filled(self.modulus_len(), |block| {
            let mut length = block.len();
            // SAFETY: the context is live; `length` is the size of the buffer; both slices are live.
            let done = unsafe {
                ffi::EVP_PKEY_decrypt_init(context.as_ptr()) == 1
                    && ffi::EVP_PKEY_CTX_set_rsa_padding(context.as_ptr(), ffi::RSA_NO_PADDING) == 1
                    && ffi::EVP_PKEY_decrypt(
                        context.as_ptr(),
                        block.as_mut_ptr(),
                        &raw mut length,
                        ciphertext.as_ptr(),
                        ciphertext.len(),
                    ) == 1
            };
            done && length == block.len()
        })
    }

    /// Returns the answer for a bad ciphertext.
    fn replacement(
        &self,
        version: u16,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<[u8; PRE_MASTER]>, CryptoError> {
        let key = self.rejection_key()?;
        let mut secret = Zeroizing::new([0; PRE_MASTER]);
        let (start, rest) = secret.split_at_mut(2);
        start.copy_from_slice(&version.to_be_bytes());
        for (count, part) in (1_u8..).zip(rest.chunks_mut(MAC)) {
            let message = [&[count], version.to_be_bytes().as_slice(), ciphertext].concat();
            let mut mac = Zeroizing::new([0; MAC]);
            if !hmac(key.bytes(), &message, &mut mac) {
                return Err(CryptoError::last());
            }
            part.copy_from_slice(&mac[..part.len()]);
        }
        Ok(secret)
    }

    /// Returns the key from which the answers for bad ciphertexts are derived. It is derived from the private exponent.
    fn rejection_key(&self) -> Result<&SecretFile, CryptoError> {
        if let Some(key) = self.rejection.get() {
            return Ok(key);
        }
        let exponent = self.exponent()?;
        let key = SecretFile::filled(MAC, |key| {
            key.try_into().is_ok_and(|key: &mut [u8; MAC]| hmac(LABEL, exponent.bytes(), key))
        })?;
        Ok(self.rejection.get_or_init(|| key))
    }

    /// Returns the private exponent, padded to the length of the modulus.
    fn exponent(&self) -> Result<SecretFile, CryptoError> {
        let mut number = ptr::null_mut();
        // SAFETY: the key is live; the call returns a new number, which is freed by its function.
        let number = unsafe {
            let found = EVP_PKEY_get_bn_param(self.as_ptr(), c"d".as_ptr(), &raw mut number) == 1;
            Owned::new(if found { number } else { ptr::null_mut() }, ffi::BN_clear_free)?
        };
        SecretFile::filled(self.modulus_len(), |bytes| {
            let length = c_int::try_from(bytes.len()).unwrap_or(0);
            // SAFETY: the number is live; the call writes `length` bytes, which is the size of the buffer.
            unsafe { ffi::BN_bn2binpad(number.as_ptr(), bytes.as_mut_ptr(), length) == length }
        })
    }
}

fn hmac(key: &[u8], message: &[u8], mac: &mut [u8; MAC]) -> bool {
    let key_len = c_int::try_from(key.len()).unwrap_or(0);
    // SAFETY: both slices are live, and SHA-256 writes 32 bytes, which is the size of the buffer; the length is not
    // requested.
    let written = unsafe {
        HMAC(
            ffi::EVP_sha256(),
            key.as_ptr().cast(),
            key_len,
            message.as_ptr(),
            message.len(),
            mac.as_mut_ptr(),
            ptr::null_mut(),
        )
    };
    !written.is_null()
}

/// Copies the end of `block` to `secret` if the block is good, else `other`. The time does not depend on the choice.
fn choose(block: &[u8], version: u16, other: &[u8; PRE_MASTER], secret: &mut [u8; PRE_MASTER]) {
    let Some((head, end)) = block.split_last_chunk::<PRE_MASTER>().filter(|(head, _)| head.len() >= HEAD_MIN)
    else {
        // No supported modulus is this short, and its length is public.
        *secret = *other;
        return;
    };
    let good = good(head, end, version);
    for ((out, good_one), other) in secret.iter_mut().zip(end).zip(other) {
        let good = black_box(good);
        *out = (good_one & good) | (other & !good);
    }
}

/// Returns 0xff for a block whose padding and version are right, else 0.
fn good(head: &[u8], end: &[u8; PRE_MASTER], version: u16) -> u8 {
    let [major, minor] = version.to_be_bytes();
    let mut wrong = (end[0] ^ major) | (end[1] ^ minor);
    for (index, byte) in head.iter().enumerate() {
        // The index is public.
        wrong |= match index {
            0 => *byte,
            1 => *byte ^ 2,
            _ if index + 1 == head.len() => *byte,
            _ => zero(*byte),
        };
    }
    zero(wrong)
}

/// Returns 0xff for 0, and 0 for every other byte.
fn zero(byte: u8) -> u8 {
    let [_, _, borrowed, _] = u32::from(black_box(byte)).wrapping_sub(1).to_be_bytes();
    borrowed
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: [u8; PRE_MASTER] = [0xee; PRE_MASTER];

    /// Returns a good block of a 2,048-bit key.
    fn block() -> Vec<u8> {
        let head = [&[0, 2], [0x77; 256 - PRE_MASTER - 3].as_slice(), &[0]];
        [head.concat().as_slice(), &[3, 3], &[0x5a; PRE_MASTER - 2]].concat()
    }

    fn chosen(block: &[u8], version: u16) -> [u8; PRE_MASTER] {
        let mut secret = [0; PRE_MASTER];
        choose(block, version, &OTHER, &mut secret);
        secret
    }

    #[test]
    fn zero_is_told_from_every_other_byte() {
        assert!((0..=255).all(|byte| zero(byte) == if byte == 0 { 0xff } else { 0 }));
    }

    #[test]
    fn finding_14_a_block_with_any_wrong_byte_before_the_secret_is_replaced() {
        let good = block();
        assert_eq!(chosen(&good, 0x0303)[..], good[256 - PRE_MASTER..]);
        assert_eq!(chosen(&good, 0x0302), OTHER);
        for index in 0..256 - PRE_MASTER + 2 {
            let mut bad = good.clone();
            bad[index] = if bad[index] == 0x77 { 0 } else { bad[index] ^ 0x80 };
            assert_eq!(chosen(&bad, 0x0303), OTHER, "{index}");
        }
    }
}
