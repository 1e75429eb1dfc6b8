//! The blocks of a PEM file, and its certificates as opaque bytes. libcrypto decodes the text form, and does not parse
//! the certificates.

use crate::crypto::object::{CryptoError, Owned};
use crate::crypto::secret::CRYPTO_clear_free;
use crate::crypto::secret::SecretFile;
use crate::identities::chain::{self, NoCertificate};
use openssl_sys as ffi;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr;

unsafe extern "C" {
    fn PEM_read_bio(
        bio: *mut ffi::BIO,
        name: *mut *mut c_char,
        header: *mut *mut c_char,
        data: *mut *mut u8,
        len: *mut c_long,
    ) -> c_int;
    fn PEM_get_EVP_CIPHER_INFO(header: *mut c_char, cipher: *mut CipherInfo) -> c_int;
    fn PEM_do_header(
        cipher: *mut CipherInfo,
        data: *mut u8,
        len: *mut c_long,
        callback: ffi::pem_password_cb,
        user: *mut c_void,
    ) -> c_int;
}

/// `EVP_CIPHER_INFO` of `<openssl/evp.h>`.
#[repr(C)]
struct CipherInfo {
    cipher: *const ffi::EVP_CIPHER,
    iv: [u8; 16],
}

/// The maximum number of certificates in one file.
const CERTIFICATES_MAX: usize = 64;

/// The labels of certificates.
const LABELS: [&CStr; 2] = [c"CERTIFICATE", c"X509 CERTIFICATE"];

/// The reason why the certificates of a file are rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PemFault {
    /// libcrypto cannot decode the text form.
    #[error("{0}")]
    Text(#[from] CryptoError),
    /// The block has a header.
    #[error("it is encrypted")]
    Encrypted,
    /// The bytes are not a certificate.
    #[error("{0}")]
    Other(#[from] NoCertificate),
    /// The file has more than [`CERTIFICATES_MAX`] certificates.
    #[error("more than {CERTIFICATES_MAX} certificates")]
    TooMany,
}

/// Returns the certificates of a PEM file, which may also contain other blocks.
///
/// # Errors
/// [`PemFault`].
pub(crate) fn certificates(file: &SecretFile) -> Result<Vec<Vec<u8>>, PemFault> {
    let bio = file.bio()?;
    let mut all = Vec::new();
    while let Some(block) = Block::next(&bio)? {
        if !block.is_certificate() {
            continue;
        }
        if all.len() == CERTIFICATES_MAX {
            return Err(PemFault::TooMany);
        }
        all.push(block.public()?);
    }
    Ok(all)
}

/// A PEM block. It may be a private key, so its bytes stay in libcrypto's memory and are wiped.
pub(super) struct Block {
    name: *mut c_char,
    header: *mut c_char,
    data: *mut u8,
    len: usize,
}

impl Block {
    /// Returns the next block. `None` at the end of the file.
    pub(super) fn next(bio: &Owned<ffi::BIO>) -> Result<Option<Self>, CryptoError> {
        let mut block =
            Self { name: ptr::null_mut(), header: ptr::null_mut(), data: ptr::null_mut(), len: 0 };
        let mut len = 0;
        // SAFETY: the BIO is live, and there is a place for each part of the block, which this code then owns.
        let read = unsafe {
            let (name, header) = (&raw mut block.name, &raw mut block.header);
            PEM_read_bio(bio.as_ptr(), name, header, &raw mut block.data, &raw mut len)
        };
        if read == 1 {
            block.len = usize::try_from(len).unwrap_or(0);
            return Ok(Some(block));
        }
        if is_end_of_pem() { Ok(None) } else { Err(CryptoError::last()) }
    }

    fn is_certificate(&self) -> bool {
        LABELS.contains(&self.label())
    }

    /// Takes ownership of bytes that libcrypto has allocated.
    ///
    /// # Safety
    /// `data` is null or has `len` bytes, and has no other owner.
    pub(super) unsafe fn of(data: *mut u8, len: usize) -> Self {
        Self { name: ptr::null_mut(), header: ptr::null_mut(), data, len }
    }

    pub(super) fn label(&self) -> &CStr {
        self.text(self.name)
    }

    /// Returns whether the block has a header, as encrypted blocks do.
    pub(super) fn has_header(&self) -> bool {
        !self.text(self.header).is_empty()
    }

    /// Decrypts the bytes in place, as the header specifies.
    ///
    /// # Errors
    /// [`CryptoError`]; the content of the bytes is then undefined.
    ///
    /// # Safety
    /// `callback` may be called with `user`.
    pub(super) unsafe fn decrypt(
        &mut self,
        callback: ffi::pem_password_cb,
        user: *mut c_void,
    ) -> Result<(), CryptoError> {
        let mut info = CipherInfo { cipher: ptr::null(), iv: [0; 16] };
        let mut len = c_long::try_from(self.len).unwrap_or(0);
        // SAFETY: header and bytes belong to the block, and `len` is the number of bytes; the caller guarantees the
        // rest.
        let done = unsafe {
            PEM_get_EVP_CIPHER_INFO(self.header, &raw mut info) == 1
                && PEM_do_header(&raw mut info, self.data, &raw mut len, callback, user) == 1
        };
        self.len = usize::try_from(len).unwrap_or(0).min(self.len);
        if done { Ok(()) } else { Err(CryptoError::last()) }
    }

    /// Returns the bytes. They must not be copied into Rust's memory before they are known to be public.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: libcrypto has written that many bytes there, and they live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    /// Returns a copy of the bytes if they have the structure of a certificate. Otherwise copies nothing.
    fn public(&self) -> Result<Vec<u8>, PemFault> {
        if self.has_header() {
            return Err(PemFault::Encrypted);
        }
        chain::check(self.bytes())?;
        Ok(self.bytes().to_vec())
    }

    /// Returns one of the texts of the block.
    fn text(&self, own: *const c_char) -> &CStr {
        if own.is_null() {
            return c"";
        }
        // SAFETY: the texts of a block are zero-terminated, and live as long as the block.
        unsafe { CStr::from_ptr(own) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let file = c"keeper".as_ptr();
        // SAFETY: libcrypto has allocated all three for this value, or left them null; only this code frees them.
        unsafe {
            ffi::CRYPTO_free(self.name.cast(), file, 0);
            ffi::CRYPTO_free(self.header.cast(), file, 0);
            CRYPTO_clear_free(self.data.cast(), self.len, file, 0);
        }
    }
}

/// Returns whether the newest error means that no PEM block is left. If so, discards the error.
fn is_end_of_pem() -> bool {
    // SAFETY: the calls work on the thread's own queue.
    unsafe {
        let error = ffi::ERR_peek_last_error();
        let end = ffi::ERR_GET_LIB(error) == ffi::ERR_LIB_PEM
            && ffi::ERR_GET_REASON(error) == ffi::PEM_R_NO_START_LINE;
        if end {
            ffi::ERR_clear_error();
        }
        end
    }
}
