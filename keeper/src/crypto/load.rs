//! Loads a private key from PEM. libcrypto does not decode or decrypt anything before [`key_shape`] has checked it.

use crate::crypto::fault::KeyFault;
use crate::crypto::object::{CryptoError, Owned};
use crate::crypto::pem::Block;
use crate::crypto::secret::SecretFile;
use crate::identities::key_shape::{self, Algorithm, Form, ShapeFault};
use crate::limits::KEY_MAX;
use openssl_sys as ffi;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

/// The EncryptedPrivateKeyInfo type of libcrypto.
enum EncryptedKey {}
/// The PrivateKeyInfo type of libcrypto. The key in it is not decoded.
enum KeyInfo {}
/// `OSSL_DECODER_CTX`.
enum Decoder {}

unsafe extern "C" {
    fn PEM_read_bio_PKCS8(
        bio: *mut ffi::BIO,
        to: *mut *mut EncryptedKey,
        callback: ffi::pem_password_cb,
        user: *mut c_void,
    ) -> *mut EncryptedKey;
    fn X509_SIG_free(key: *mut EncryptedKey);
    fn PKCS8_decrypt(key: *const EncryptedKey, passphrase: *const c_char, len: c_int) -> *mut KeyInfo;
    fn PKCS8_PRIV_KEY_INFO_free(key: *mut KeyInfo);
    fn i2d_PKCS8_PRIV_KEY_INFO(key: *const KeyInfo, out: *mut *mut u8) -> c_int;
    fn OSSL_DECODER_CTX_new_for_pkey(
        key: *mut *mut ffi::EVP_PKEY,
        input: *const c_char,
        structure: *const c_char,
        kind: *const c_char,
        selection: c_int,
        library: *mut c_void,
        properties: *const c_char,
    ) -> *mut Decoder;
    fn OSSL_DECODER_from_data(decoder: *mut Decoder, data: *mut *const u8, len: *mut usize) -> c_int;
    fn OSSL_DECODER_CTX_free(decoder: *mut Decoder);
}

/// `EVP_PKEY_KEYPAIR` of `<openssl/evp.h>`: both halves and the parameters.
const KEYPAIR: c_int = 0x87;

impl From<ShapeFault> for KeyFault {
    fn from(fault: ShapeFault) -> Self {
        match fault {
            ShapeFault::Malformed => Self::Unreadable(CryptoError("its encoding is invalid".to_owned())),
            ShapeFault::Unsupported(what) => Self::Unsupported(what),
        }
    }
}

/// Reads the first private key of a file. `None` if the file has no block with such a label.
///
/// # Errors
/// [`KeyFault`].
pub(super) fn read(
    file: &SecretFile,
    passphrase: Option<&SecretFile>,
) -> Result<Option<Owned<ffi::EVP_PKEY>>, KeyFault> {
    let Some(mut block) = first_key(file).map_err(KeyFault::Unreadable)? else { return Ok(None) };
    let form = Form::of_label(block.label().to_bytes())?;
    let passphrase = passphrase.map(SecretFile::passphrase);
    let key = match form {
        Form::Encrypted => open(file, &block, passphrase)?,
        _ if block.has_header() => decrypted(form, &mut block, passphrase)?,
        _ => decode(form, &block)?,
    };
    Ok(Some(key))
}

fn first_key(file: &SecretFile) -> Result<Option<Block>, CryptoError> {
    let bio = file.bio()?;
    while let Some(block) = Block::next(&bio)? {
        if block.label().to_bytes().ends_with(b"PRIVATE KEY") {
            return Ok(Some(block));
        }
    }
    Ok(None)
}

/// Checks the bytes of a key, and has libcrypto decode them as the form that they have, and as no other form.
fn decode(form: Form, block: &Block) -> Result<Owned<ffi::EVP_PKEY>, KeyFault> {
    let algorithm = key_shape::check(form, block.bytes())?;
    bounded(block)?;
    let structure = if form == Form::Pkcs8 { c"PrivateKeyInfo" } else { c"type-specific" };
    decode_as(structure, name(algorithm), block.bytes()).map_err(KeyFault::Unreadable)
}

/// Checks the length. Attributes or a salt may have any length, and libcrypto copies them several times.
fn bounded(block: &Block) -> Result<(), KeyFault> {
    if block.bytes().len() <= KEY_MAX {
        return Ok(());
    }
    Err(KeyFault::Unsupported(format!("a private key of more than {KEY_MAX} bytes is not supported")))
}

fn name(algorithm: Algorithm) -> &'static CStr {
    match algorithm {
        Algorithm::Rsa => c"RSA",
        Algorithm::Ec => c"EC",
        Algorithm::Ed25519 => c"ED25519",
        Algorithm::Ed448 => c"ED448",
    }
}

fn decode_as(structure: &CStr, kind: &CStr, bytes: &[u8]) -> Result<Owned<ffi::EVP_PKEY>, CryptoError> {
    let mut key = ptr::null_mut();
    let (mut data, mut len) = (bytes.as_ptr(), bytes.len());
    // SAFETY: the texts are static; `key` outlives the decoder that writes to it, and the bytes are live.
    unsafe {
        let decoder = OSSL_DECODER_CTX_new_for_pkey(
            &raw mut key,
            c"DER".as_ptr(),
            structure.as_ptr(),
            kind.as_ptr(),
            KEYPAIR,
            ptr::null_mut(),
            ptr::null(),
        );
        let decoder = Owned::new(decoder, OSSL_DECODER_CTX_free)?;
        let done = OSSL_DECODER_from_data(decoder.as_ptr(), &raw mut data, &raw mut len);
        let key = Owned::new(key, ffi::EVP_PKEY_free)?;
        if done == 1 { Ok(key) } else { Err(CryptoError::last()) }
    }
}

/// Decrypts a PKCS#8 key: `block`, which is the first encrypted block of the file.
fn open(
    file: &SecretFile,
    block: &Block,
    passphrase: Option<&[u8]>,
) -> Result<Owned<ffi::EVP_PKEY>, KeyFault> {
    if block.has_header() {
        return Err(ShapeFault::Malformed.into());
    }
    key_shape::check_encryption(block.bytes())?;
    bounded(block)?;
    let passphrase = passphrase.ok_or(KeyFault::NeedsPassphrase)?;
    let bio = file.bio().map_err(KeyFault::Unreadable)?;
    let opened = decrypt(&bio, passphrase).map_err(|_| KeyFault::WrongPassphrase)?;
    decode(Form::Pkcs8, &opened)
}

/// Returns the bytes of the PrivateKeyInfo in the first encrypted key.
fn decrypt(bio: &Owned<ffi::BIO>, passphrase: &[u8]) -> Result<Block, CryptoError> {
    let length = c_int::try_from(passphrase.len()).map_err(|_| CryptoError("too long".to_owned()))?;
    let mut asked = Asked { passphrase: None, times: 0 };
    let mut data = ptr::null_mut();
    // SAFETY: each object is new and is freed by its function; the passphrase is live and has the given length; the
    // callback gets `asked`, which outlives the call; libcrypto allocates `data`, which the block then owns.
    unsafe {
        let user = (&raw mut asked).cast();
        let key = PEM_read_bio_PKCS8(bio.as_ptr(), ptr::null_mut(), Some(give_passphrase), user);
        let key = Owned::new(key, X509_SIG_free)?;
        let info = PKCS8_decrypt(key.as_ptr(), passphrase.as_ptr().cast(), length);
        let info = Owned::new(info, PKCS8_PRIV_KEY_INFO_free)?;
        let len = i2d_PKCS8_PRIV_KEY_INFO(info.as_ptr(), &raw mut data);
        let len = usize::try_from(len).map_err(|_| CryptoError::last())?;
        Ok(Block::of(data, len))
    }
}

/// Decrypts and decodes a block that is encrypted as PEM specifies.
fn decrypted(
    form: Form,
    block: &mut Block,
    passphrase: Option<&[u8]>,
) -> Result<Owned<ffi::EVP_PKEY>, KeyFault> {
    bounded(block)?;
    let mut asked = Asked { passphrase, times: 0 };
    // SAFETY: the callback gets `asked`, which outlives the call.
    let opened = unsafe { block.decrypt(Some(give_passphrase), (&raw mut asked).cast()) };
    opened.map_err(|error| match (asked.times, passphrase) {
        (0, _) => KeyFault::Unreadable(error),
        (_, None) => KeyFault::NeedsPassphrase,
        (_, Some(_)) => KeyFault::WrongPassphrase,
    })?;
    // One wrong passphrase in 256 produces bytes that end in valid padding.
    decode(form, block).map_err(|fault| match fault {
        KeyFault::Unreadable(_) => KeyFault::WrongPassphrase,
        fault => fault,
    })
}

/// The passphrase for the callback, and whether the callback was called.
struct Asked<'a> {
    passphrase: Option<&'a [u8]>,
    times: u32,
}

/// Provides the configured passphrase, or nothing. libcrypto's default callback would ask at the terminal.
unsafe extern "C" fn give_passphrase(buffer: *mut c_char, size: c_int, _: c_int, user: *mut c_void) -> c_int {
    // SAFETY: `user` is the `Asked` that the caller keeps alive during the call that runs this.
    let asked = unsafe { &mut *user.cast::<Asked<'_>>() };
    asked.times += 1;
    let Some(passphrase) = asked.passphrase else { return -1 };
    match c_int::try_from(passphrase.len()) {
        Ok(length) if length <= size => {
            // SAFETY: `buffer` has room for `size` bytes, and belongs to libcrypto.
            unsafe { ptr::copy_nonoverlapping(passphrase.as_ptr(), buffer.cast(), passphrase.len()) };
            length
        }
        _ => -1,
    }
}
