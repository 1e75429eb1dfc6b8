//! RSA key exchange of TLS 1.2 (RFC 5246, 7.4.7.1), by libcrypto's own way for it: out come 48 bytes, which are the secret,
//! or random where padding or version are wrong, in the same time. A raw RSA result never leaves libcrypto.

use super::{CryptoError, Owned, PrivateKey};
use luassl_keeper_ipc::front::PRE_MASTER;
use openssl_sys as ffi;
use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

unsafe extern "C" {
    fn OSSL_PARAM_construct_uint(key: *const c_char, value: *mut c_uint) -> ffi::OSSL_PARAM;
    fn OSSL_PARAM_construct_end() -> ffi::OSSL_PARAM;
}

/// `RSA_PKCS1_WITH_TLS_PADDING` of `<openssl/rsa.h>`.
const PKCS1_WITH_TLS_PADDING: c_int = 7;

impl PrivateKey {
    /// Bytes of what is encrypted to an RSA key.
    pub(crate) fn modulus_len(&self) -> usize {
        // SAFETY: the key is live.
        usize::try_from(unsafe { ffi::EVP_PKEY_get_size(self.as_ptr()) }).unwrap_or(0)
    }

    /// The pre-master secret in `ciphertext`, whose first bytes have to be `version`; or random bytes.
    ///
    /// # Errors
    /// [`CryptoError`] for a key that is not RSA, and for a ciphertext that is no number below the modulus.
    pub(crate) fn pre_master(
        &self,
        version: u16,
        ciphertext: &[u8],
        secret: &mut [u8; PRE_MASTER],
    ) -> Result<(), CryptoError> {
        let context = self.decryption(version)?;
        let mut length = secret.len();
        // SAFETY: `length` says how much room there is; both slices are live.
        let done = unsafe {
            ffi::EVP_PKEY_decrypt(
                context.as_ptr(),
                secret.as_mut_ptr(),
                &raw mut length,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        };
        if done == 1 && length == PRE_MASTER { Ok(()) } else { Err(CryptoError::last()) }
    }

    fn decryption(&self, version: u16) -> Result<Owned<ffi::EVP_PKEY_CTX>, CryptoError> {
        // SAFETY: the key is live; the context takes a reference of its own, and is freed by its function.
        let context = unsafe {
            Owned::new(ffi::EVP_PKEY_CTX_new(self.as_ptr(), ptr::null_mut()), ffi::EVP_PKEY_CTX_free)?
        };
        let mut version = c_uint::from(version);
        // SAFETY: the context is live; the parameters are read within the call, and `version` outlives it.
        let good = unsafe {
            let parameters = [
                OSSL_PARAM_construct_uint(c"tls-client-version".as_ptr(), &raw mut version),
                OSSL_PARAM_construct_end(),
            ];
            ffi::EVP_PKEY_decrypt_init(context.as_ptr()) == 1
                && ffi::EVP_PKEY_CTX_set_rsa_padding(context.as_ptr(), PKCS1_WITH_TLS_PADDING) == 1
                && ffi::EVP_PKEY_CTX_set_params(context.as_ptr(), parameters.as_ptr()) == 1
        };
        if good { Ok(context) } else { Err(CryptoError::last()) }
    }
}
