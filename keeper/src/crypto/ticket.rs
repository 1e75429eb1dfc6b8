//! The root of ticket keys, and the keys that are derived from it.

use crate::crypto::object::{CryptoError, Owned};
use crate::crypto::secret::SecretFile;
use openssl_sys as ffi;
use std::ffi::c_int;
use std::ptr;

/// The length of a root that the keeper generates if no file provides one, in bytes.
const DRAWN: usize = 32;

/// Separates these keys from any other keys derived from the same file.
const SALT: &[u8] = b"luassl ticket epochs 1";

/// The secret bytes from which the keys of epochs are derived. Machines with the same root have the same keys.
pub(crate) struct TicketRoot(SecretFile);

// SAFETY: the bytes are written before the value is created, and only read after that; any thread may free libcrypto's
// memory.
unsafe impl Send for TicketRoot {}
// SAFETY: as above.
unsafe impl Sync for TicketRoot {}

impl TicketRoot {
    /// The length of the shortest file that can be a root, in bytes.
    pub(crate) const MIN_LEN: usize = 32;

    /// Returns a root for this process only.
    pub(crate) fn draw() -> Result<Self, CryptoError> {
        SecretFile::random(DRAWN).map(Self)
    }

    /// Returns a root with the content of a file. `None` if the file is too short to be secret.
    pub(crate) fn from_file(file: SecretFile) -> Option<Self> {
        (file.bytes().len() >= Self::MIN_LEN).then_some(Self(file))
    }

    /// Derives a key from the root for `purpose` with HKDF-SHA-256 (RFC 5869).
    pub(crate) fn derive(&self, purpose: &[u8], key: &mut [u8; 32]) -> Result<(), CryptoError> {
        let mode = ffi::EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
        // SAFETY: each value is a live object of libcrypto or the error that it left; the parameters point to live
        // bytes that libcrypto only reads, and end with their terminator; `key` has the given length.
        unsafe {
            let kdf = ffi::EVP_KDF_fetch(ptr::null_mut(), c"HKDF".as_ptr(), ptr::null());
            let kdf = Owned::new(kdf, ffi::EVP_KDF_free)?;
            let context = Owned::new(ffi::EVP_KDF_CTX_new(kdf.as_ptr()), ffi::EVP_KDF_CTX_free)?;
            let params = [
                text(c"digest", c"SHA256"),
                bytes(c"key", self.0.bytes()),
                bytes(c"salt", SALT),
                bytes(c"info", purpose),
                integer(c"mode", &mode),
                ffi::OSSL_PARAM_construct_end(),
            ];
            match ffi::EVP_KDF_derive(context.as_ptr(), key.as_mut_ptr(), key.len(), params.as_ptr()) {
                1 => Ok(()),
                _ => Err(CryptoError::last()),
            }
        }
    }
}

/// `<openssl/core.h>`
const OSSL_PARAM_INTEGER: u32 = 1;
const OSSL_PARAM_UTF8_STRING: u32 = 4;
const OSSL_PARAM_OCTET_STRING: u32 = 5;

fn param(key: &'static std::ffi::CStr, data_type: u32, data: *const u8, data_size: usize) -> ffi::OSSL_PARAM {
    let data = data.cast_mut().cast();
    ffi::OSSL_PARAM { key: key.as_ptr(), data_type, data, data_size, return_size: usize::MAX }
}

fn text(key: &'static std::ffi::CStr, value: &'static std::ffi::CStr) -> ffi::OSSL_PARAM {
    param(key, OSSL_PARAM_UTF8_STRING, value.as_ptr().cast(), value.count_bytes())
}

fn bytes(key: &'static std::ffi::CStr, value: &[u8]) -> ffi::OSSL_PARAM {
    param(key, OSSL_PARAM_OCTET_STRING, value.as_ptr(), value.len())
}

fn integer(key: &'static std::ffi::CStr, value: &c_int) -> ffi::OSSL_PARAM {
    param(key, OSSL_PARAM_INTEGER, ptr::from_ref(value).cast(), size_of::<c_int>())
}
