//! Private keys: reading from PEM, checking, and signing. They are never written out.

use crate::crypto::fault::KeyFault;
use crate::crypto::load;
use crate::crypto::object::{CryptoError, Owned, to_der};
use crate::crypto::secret::SecretFile;
use crate::policy::scheme::{Digest, KeyKind, Scheme};
use openssl_sys as ffi;
use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::OnceLock;

unsafe extern "C" {
    fn EVP_MD_CTX_copy_ex(to: *mut ffi::EVP_MD_CTX, from: *const ffi::EVP_MD_CTX) -> c_int;
    fn EVP_DigestVerify(
        context: *mut ffi::EVP_MD_CTX,
        signature: *const u8,
        signature_len: usize,
        message: *const u8,
        message_len: usize,
    ) -> c_int;
}

/// Supported RSA moduli, in bits.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=4096;

/// The length of the longest signature: RSA 4096.
const SIGNATURE_MAX: usize = 512;

/// The message that is signed once when a key is loaded, to check that the two halves match.
const PROOF: &[u8] = b"luassl-keeper";

/// The part that every private key in PEM has in its first line, also an encrypted one. The kind of the key is before
/// it.
const PEM_MARK: &str = "PRIVATE KEY-----";

/// A private key of a supported kind. The type has neither Debug nor Clone.
pub(crate) struct PrivateKey {
    key: Owned<ffi::EVP_PKEY>,
    kind: KeyKind,
    /// Contexts that have begun a signature, by scheme. Beginning a signature costs libcrypto 2 us and 3 KiB of the
    /// arena; copying a context costs almost nothing.
    begun: [OnceLock<Owned<ffi::EVP_MD_CTX>>; SCHEMES],
    /// The secret from which the answers for bad ciphertexts are derived. Set for an RSA key that has decrypted.
    pub(super) rejection: OnceLock<SecretFile>,
}

/// The number of schemes of one key for which a context is kept: two paddings of RSA with three digests each.
const SCHEMES: usize = 6;

// SAFETY: an EVP_PKEY that is no longer changed may be used by many threads: its caches have their own locks, and a
// signature changes only the EVP_MD_CTX, which belongs to the call. A kept EVP_MD_CTX is only copied, which counts
// references with atomic operations and writes nothing else in it. The bytes of `rejection` are only read.
unsafe impl Send for PrivateKey {}
// SAFETY: as above.
unsafe impl Sync for PrivateKey {}

impl PrivateKey {
    /// Reads the first private key (PKCS#8, PKCS#1, SEC1) of a PEM file. Other blocks are skipped.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub(crate) fn read(file: &SecretFile, passphrase: Option<&SecretFile>) -> Result<Self, KeyFault> {
        if !file.contains(PEM_MARK) {
            return Err(KeyFault::Missing(hint(file)));
        }
        if file.contains("BEGIN OPENSSH PRIVATE KEY") {
            return Err(KeyFault::Unsupported("a key in OpenSSH's own format".to_owned()));
        }
        let key = load::read(file, passphrase)?.ok_or_else(|| KeyFault::Missing(hint(file)))?;
        let kind = kind(&key)?;
        let key = Self { key, kind, begun: [const { OnceLock::new() }; SCHEMES], rejection: OnceLock::new() };
        if key.proves_itself() { Ok(key) } else { Err(KeyFault::Damaged) }
    }

    /// Returns the kind of the key.
    pub(crate) fn kind(&self) -> KeyKind {
        self.kind
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::EVP_PKEY {
        self.key.as_ptr()
    }

    /// Returns the public half as DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub(crate) fn public_key(&self) -> Result<Vec<u8>, CryptoError> {
        // SAFETY: the key is live, and `to_der` provides room for the length that was returned.
        to_der(|out| unsafe { ffi::i2d_PUBKEY(self.as_ptr(), out) })
    }

    /// Signs a whole message.
    ///
    /// # Errors
    /// [`CryptoError`] if libcrypto fails, for example because the scheme does not fit the key.
    pub(crate) fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let context = self.begin(scheme)?;
        let mut signature = vec![0; SIGNATURE_MAX];
        let mut length = signature.len();
        // SAFETY: `length` is the size of the buffer; both slices are live.
        let done = unsafe {
            ffi::EVP_DigestSign(
                context.as_ptr(),
                signature.as_mut_ptr(),
                &raw mut length,
                message.as_ptr(),
                message.len(),
            )
        };
        if done != 1 {
            return Err(CryptoError::last());
        }
        signature.truncate(length);
        Ok(signature)
    }

    fn verify(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> Result<bool, CryptoError> {
        let context = self.start(scheme, ffi::EVP_DigestVerifyInit)?;
        // SAFETY: both slices are live.
        let verdict = unsafe {
            EVP_DigestVerify(
                context.as_ptr(),
                signature.as_ptr(),
                signature.len(),
                message.as_ptr(),
                message.len(),
            )
        };
        Ok(verdict == 1)
    }

    /// Returns whether the two halves match.
    fn proves_itself(&self) -> bool {
        let scheme = Scheme::usual(self.kind);
        let signature = self.sign(scheme, PROOF);
        let good = signature.and_then(|signature| self.verify(scheme, PROOF, &signature));
        good.unwrap_or(false)
    }

    /// Returns a context that has begun a signature.
    fn begin(&self, scheme: Scheme) -> Result<Owned<ffi::EVP_MD_CTX>, CryptoError> {
        let begin = || self.start(scheme, ffi::EVP_DigestSignInit);
        let Some(kept) = index_of(scheme).and_then(|index| self.begun.get(index)) else { return begin() };
        let first = match kept.get() {
            Some(first) => first,
            None => {
                let first = begin()?;
                kept.get_or_init(|| first)
            }
        };
        // SAFETY: a new context, freed by its function; a live context is copied to it.
        unsafe {
            let context = Owned::new(ffi::EVP_MD_CTX_new(), ffi::EVP_MD_CTX_free)?;
            let copied = EVP_MD_CTX_copy_ex(context.as_ptr(), first.as_ptr()) == 1;
            if copied { Ok(context) } else { Err(CryptoError::last()) }
        }
    }

    fn start(&self, scheme: Scheme, init: Init) -> Result<Owned<ffi::EVP_MD_CTX>, CryptoError> {
        // SAFETY: a new context, freed by its function.
        let context = unsafe { Owned::new(ffi::EVP_MD_CTX_new(), ffi::EVP_MD_CTX_free)? };
        let mut parameters = ptr::null_mut();
        // SAFETY: context and key are live; `parameters` is set to a part of the context, and is not kept longer than
        // the context.
        let mut good = unsafe {
            init(context.as_ptr(), &raw mut parameters, digest(scheme), ptr::null_mut(), self.as_ptr()) == 1
        };
        if let Scheme::RsaPss(_) = scheme {
            // SAFETY: `parameters` was set by the call that succeeded; the salt is as long as the digest (RFC 8446).
            good = good
                && unsafe {
                    ffi::EVP_PKEY_CTX_set_rsa_padding(parameters, ffi::RSA_PKCS1_PSS_PADDING) == 1
                        && ffi::EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, PSS_SALT_AS_DIGEST) == 1
                };
        }
        if good { Ok(context) } else { Err(CryptoError::last()) }
    }
}

/// `RSA_PSS_SALTLEN_DIGEST` of `<openssl/rsa.h>`.
const PSS_SALT_AS_DIGEST: c_int = -1;

/// EVP_DigestSignInit or EVP_DigestVerifyInit.
type Init = unsafe extern "C" fn(
    *mut ffi::EVP_MD_CTX,
    *mut *mut ffi::EVP_PKEY_CTX,
    *const ffi::EVP_MD,
    *mut ffi::ENGINE,
    *mut ffi::EVP_PKEY,
) -> c_int;

fn digest(scheme: Scheme) -> *const ffi::EVP_MD {
    // SAFETY: these return static descriptions.
    unsafe {
        match scheme.digest() {
            None => ptr::null(),
            Some(Digest::Sha256) => ffi::EVP_sha256(),
            Some(Digest::Sha384) => ffi::EVP_sha384(),
            Some(Digest::Sha512) => ffi::EVP_sha512(),
        }
    }
}

/// Returns the index of the context of a scheme. `None` for a scheme whose hash is part of the signature algorithm,
/// because libcrypto can copy only a context with a digest.
fn index_of(scheme: Scheme) -> Option<usize> {
    let padding = if matches!(scheme, Scheme::RsaPss(_)) { SCHEMES / 2 } else { 0 };
    scheme.digest().map(|digest| padding + digest as usize)
}

/// Returns a hint about the content of a file without a private key.
fn hint(file: &SecretFile) -> &'static str {
    if file.is_empty() {
        ": it is empty"
    } else if file.contains("BEGIN CERTIFICATE") {
        ", only certificates"
    } else if file.contains("-----BEGIN ") {
        ""
    } else {
        ": convert DER with openssl pkey -inform DER -in FILE -out FILE.pem"
    }
}

fn kind(key: &Owned<ffi::EVP_PKEY>) -> Result<KeyKind, KeyFault> {
    // SAFETY: the key is live.
    let (id, bits) = unsafe { (ffi::EVP_PKEY_id(key.as_ptr()), ffi::EVP_PKEY_get_bits(key.as_ptr())) };
    let bits = u32::try_from(bits).unwrap_or(0);
    match id {
        ffi::EVP_PKEY_RSA if RSA_BITS.contains(&bits) => Ok(KeyKind::Rsa(bits)),
        ffi::EVP_PKEY_RSA => {
            Err(KeyFault::Unsupported(format!("an RSA key of {bits} bits is not supported")))
        }
        ffi::EVP_PKEY_RSA_PSS => Err(unsupported("an RSA key restricted to PSS is not supported")),
        ffi::EVP_PKEY_EC => curve(key),
        ffi::EVP_PKEY_ED25519 => Ok(KeyKind::Ed25519),
        ffi::EVP_PKEY_ED448 => Ok(KeyKind::Ed448),
        ffi::EVP_PKEY_DSA => Err(unsupported("DSA is not supported, as no current TLS peer supports it")),
        _ => Err(unsupported("this kind of key is not supported")),
    }
}

fn unsupported(what: &str) -> KeyFault {
    KeyFault::Unsupported(what.to_owned())
}

fn curve(key: &Owned<ffi::EVP_PKEY>) -> Result<KeyKind, KeyFault> {
    let named = text(key, c"encoding").is_some_and(|encoding| encoding == "named_curve");
    match text(key, c"group").filter(|_| named).as_deref() {
        Some("prime256v1" | "P-256") => Ok(KeyKind::P256),
        Some("secp384r1" | "P-384") => Ok(KeyKind::P384),
        Some("secp521r1" | "P-521") => Ok(KeyKind::P521),
        Some(name) => Err(KeyFault::Unsupported(format!("an EC key on the curve {name} is not supported"))),
        None => Err(unsupported("an EC key without a named curve is not supported")),
    }
}

/// Returns a parameter of the public half, as text.
fn text(key: &Owned<ffi::EVP_PKEY>, parameter: &CStr) -> Option<String> {
    let mut text = [0_u8; 64];
    let mut length = 0;
    // SAFETY: the text is written with its zero byte, or not at all if it does not fit.
    let done = unsafe {
        let buffer = text.as_mut_ptr().cast();
        ffi::EVP_PKEY_get_utf8_string_param(
            key.as_ptr(),
            parameter.as_ptr(),
            buffer,
            text.len(),
            &raw mut length,
        )
    };
    if done != 1 {
        drop(CryptoError::last());
        return None;
    }
    CStr::from_bytes_until_nul(&text).ok()?.to_str().ok().map(str::to_owned)
}
