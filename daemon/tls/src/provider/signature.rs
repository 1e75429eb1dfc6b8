//! Signatures: libssl passes the whole message (`EVP_DigestSign`), and the provider passes it unchanged to the signer.

use crate::ffi::{self, Algorithm, Dispatch};
use crate::provider::algorithm::algorithm;
use crate::provider::key::Key;
use crate::provider::keymgmt::{entry, key_of};
use crate::provider::params::{Description, LAST, described};
use crate::provider::scheme::{Digest, Padding, scheme};
use crate::provider::signer::{REASON_REFUSED, ask, raise};
use openssl_sys::OSSL_PARAM;
use std::ffi::{CStr, c_char, c_int, c_uchar, c_void};
use std::sync::Arc;

pub(super) static ALGORITHMS: [Algorithm; 5] = [
    algorithm(c"RSA:rsaEncryption:1.2.840.113549.1.1.1", &FUNCTIONS),
    algorithm(c"ECDSA", &FUNCTIONS),
    algorithm(c"ED25519:1.3.101.112", &FUNCTIONS),
    algorithm(c"ED448:1.3.101.113", &FUNCTIONS),
    Algorithm::END,
];

type Init = unsafe extern "C" fn(*mut c_void, *const c_char, *mut c_void, *const OSSL_PARAM) -> c_int;
type Sign =
    unsafe extern "C" fn(*mut c_void, *mut c_uchar, *mut usize, usize, *const c_uchar, usize) -> c_int;

static FUNCTIONS: [Dispatch; 8] = [
    entry!(1, new_context, unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void),
    entry!(8, digest_sign_init, Init),
    entry!(11, digest_sign, Sign),
    entry!(16, free_context, unsafe extern "C" fn(*mut c_void)),
    entry!(17, duplicate_context, unsafe extern "C" fn(*mut c_void) -> *mut c_void),
    entry!(20, set_params, unsafe extern "C" fn(*mut c_void, *const OSSL_PARAM) -> c_int),
    entry!(21, settable_params, unsafe extern "C" fn(*mut c_void, *mut c_void) -> *const OSSL_PARAM),
    Dispatch::END,
];

/// One signature in progress.
#[derive(Clone)]
struct Context {
    key: Option<Arc<Key>>,
    digest: Option<Digest>,
    padding: Padding,
}

unsafe extern "C" fn new_context(_provider_context: *mut c_void, _properties: *const c_char) -> *mut c_void {
    let context = Context { key: None, digest: None, padding: Padding::Pkcs1 };
    Box::into_raw(Box::new(context)).cast()
}

unsafe extern "C" fn free_context(context: *mut c_void) {
    if !context.is_null() {
        // SAFETY: it came from `new_context` or `duplicate_context`, and libcrypto frees it once.
        drop(unsafe { Box::from_raw(context.cast::<Context>()) });
    }
}

unsafe extern "C" fn duplicate_context(context: *mut c_void) -> *mut c_void {
    // SAFETY: libcrypto passes a context of this provider.
    match unsafe { context.cast::<Context>().as_ref() } {
        Some(context) => Box::into_raw(Box::new(context.clone())).cast(),
        None => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn digest_sign_init(
    context: *mut c_void,
    digest: *const c_char,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    {
        // SAFETY: libcrypto passes a context of this provider, without other users.
        let Some(context) = (unsafe { context.cast::<Context>().as_mut() }) else { return 0 };
        if !key.is_null() {
            // SAFETY: the key object is one of this provider's.
            context.key = unsafe { key_of(key) };
        }
        if !digest.is_null() {
            // SAFETY: libcrypto passes a C string.
            let name = unsafe { CStr::from_ptr(digest) }.to_bytes();
            match read_digest(name) {
                Ok(digest) => context.digest = digest,
                Err(()) => return 0,
            }
        }
    }
    // SAFETY: the arguments are those that libcrypto would pass.
    unsafe { set_params(context, params) }
}

fn read_digest(name: &[u8]) -> Result<Option<Digest>, ()> {
    if name.is_empty() {
        return Ok(None);
    }
    std::str::from_utf8(name).ok().and_then(Digest::by_name).map(Some).ok_or(())
}

unsafe extern "C" fn settable_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    static SETTABLE: Description<6> = Description::new([
        described(c"pad-mode", ffi::OSSL_PARAM_UTF8_STRING),
        described(c"saltlen", ffi::OSSL_PARAM_UTF8_STRING),
        described(c"digest", ffi::OSSL_PARAM_UTF8_STRING),
        described(c"mgf1-digest", ffi::OSSL_PARAM_UTF8_STRING),
        described(c"properties", ffi::OSSL_PARAM_UTF8_STRING),
        LAST,
    ]);
    SETTABLE.as_ptr()
}

/// Sets the padding. The scheme determines the salt length and the mask digest, so the function reads only the padding.
unsafe extern "C" fn set_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: libcrypto passes a context of this provider, without other users.
    let Some(context) = (unsafe { context.cast::<Context>().as_mut() }) else { return 0 };
    if params.is_null() {
        return 1;
    }
    // SAFETY: libcrypto passes a terminated array.
    match unsafe { read_padding(params) } {
        Ok(Some(padding)) => context.padding = padding,
        Ok(None) => {}
        Err(()) => return 0,
    }
    1
}

unsafe fn read_padding(params: *const OSSL_PARAM) -> Result<Option<Padding>, ()> {
    // SAFETY: the caller's array is terminated; the name is a C string.
    let Some(param) =
        (unsafe { openssl_sys::OSSL_PARAM_locate_const(params, c"pad-mode".as_ptr()).as_ref() })
    else {
        return Ok(None);
    };
    if param.data_type == ffi::OSSL_PARAM_UTF8_STRING {
        if param.data.is_null() {
            return Err(());
        }
        // SAFETY: for this type, `data` is a buffer of `data_size` bytes.
        let name = unsafe { std::slice::from_raw_parts(param.data.cast::<u8>(), param.data_size) };
        return padding_by_name(name);
    }
    let mut number = 0;
    // SAFETY: the parameter was found in the caller's array.
    if unsafe { ffi::OSSL_PARAM_get_int(param, &mut number) } != 1 {
        return Err(());
    }
    padding_by_number(number)
}

fn padding_by_name(name: &[u8]) -> Result<Option<Padding>, ()> {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    match &name[..end] {
        b"pkcs1" => Ok(Some(Padding::Pkcs1)),
        b"pss" => Ok(Some(Padding::Pss)),
        _ => Err(()),
    }
}

fn padding_by_number(number: c_int) -> Result<Option<Padding>, ()> {
    const RSA_PKCS1_PADDING: c_int = 1;
    const RSA_PKCS1_PSS_PADDING: c_int = 6;
    match number {
        RSA_PKCS1_PADDING => Ok(Some(Padding::Pkcs1)),
        RSA_PKCS1_PSS_PADDING => Ok(Some(Padding::Pss)),
        _ => Err(()),
    }
}

unsafe extern "C" fn digest_sign(
    context: *mut c_void,
    signature: *mut c_uchar,
    length: *mut usize,
    room: usize,
    message: *const c_uchar,
    message_length: usize,
) -> c_int {
    // SAFETY: libcrypto passes a context of this provider, without other users.
    let Some(context) = (unsafe { context.cast::<Context>().as_ref() }) else { return 0 };
    let Some(key) = &context.key else { return 0 };
    if signature.is_null() {
        // SAFETY: libcrypto passes a pointer to be filled in with the maximum size.
        unsafe { *length = key.signature_size };
        return 1;
    }
    if message.is_null() {
        return 0;
    }
    // SAFETY: libcrypto passes a message of this length.
    let message = unsafe { std::slice::from_raw_parts(message, message_length) };
    let Some(made) = sign(context, key, message).filter(|made| made.len() <= room) else { return 0 };
    // SAFETY: `signature` has `room` bytes, which was just checked, and `length` is to be filled in.
    unsafe {
        std::ptr::copy_nonoverlapping(made.as_ptr(), signature, made.len());
        *length = made.len();
    }
    1
}

fn sign(context: &Context, key: &Key, message: &[u8]) -> Option<Vec<u8>> {
    let owner = key.owner.as_ref()?;
    let Some(scheme) = scheme(key.kind, context.digest, context.padding) else {
        raise(REASON_REFUSED, "no signature scheme of TLS 1.2 or 1.3");
        return None;
    };
    ask(|signer| signer.sign(&owner.name, owner.key_id, scheme, message))
}
