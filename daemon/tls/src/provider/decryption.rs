//! RSA key exchange of TLS 1.2: libssl passes the ciphertext of the ClientKeyExchange, and gets 48 bytes back in every
//! case. No other decryption is supported.

use crate::ffi::{self, Algorithm, Dispatch};
use crate::provider::algorithm::algorithm;
use crate::provider::key::Key;
use crate::provider::keymgmt::{entry, key_of};
use crate::provider::params::{Description, LAST, described};
use crate::provider::signer::ask;
use luassl_keeper_ipc::front::PRE_MASTER;
use openssl_sys::OSSL_PARAM;
use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::sync::Arc;

pub(super) static ALGORITHMS: [Algorithm; 2] =
    [algorithm(c"RSA:rsaEncryption:1.2.840.113549.1.1.1", &FUNCTIONS), Algorithm::END];

type Init = unsafe extern "C" fn(*mut c_void, *mut c_void, *const OSSL_PARAM) -> c_int;
type Decrypt =
    unsafe extern "C" fn(*mut c_void, *mut c_uchar, *mut usize, usize, *const c_uchar, usize) -> c_int;

static FUNCTIONS: [Dispatch; 8] = [
    entry!(1, new_context, unsafe extern "C" fn(*mut c_void) -> *mut c_void),
    entry!(4, decrypt_init, Init),
    entry!(5, decrypt, Decrypt),
    entry!(6, free_context, unsafe extern "C" fn(*mut c_void)),
    entry!(7, duplicate_context, unsafe extern "C" fn(*mut c_void) -> *mut c_void),
    entry!(10, set_params, unsafe extern "C" fn(*mut c_void, *const OSSL_PARAM) -> c_int),
    entry!(11, settable_params, unsafe extern "C" fn(*mut c_void, *mut c_void) -> *const OSSL_PARAM),
    Dispatch::END,
];

/// `RSA_PKCS1_WITH_TLS_PADDING` of `<openssl/rsa.h>`.
const PKCS1_WITH_TLS_PADDING: c_int = 7;

/// One decryption in progress.
#[derive(Clone, Default)]
struct Context {
    key: Option<Arc<Key>>,
    /// Whether libssl has requested the padding of TLS.
    tls: bool,
    /// The version that the ClientHello offered.
    version: u16,
}

unsafe extern "C" fn new_context(_provider_context: *mut c_void) -> *mut c_void {
    Box::into_raw(Box::<Context>::default()).cast()
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

unsafe extern "C" fn decrypt_init(
    context: *mut c_void,
    key: *mut c_void,
    params: *const OSSL_PARAM,
) -> c_int {
    {
        // SAFETY: libcrypto passes a context of this provider, without other users.
        let Some(context) = (unsafe { context.cast::<Context>().as_mut() }) else { return 0 };
        // SAFETY: the key object is one of this provider's.
        context.key = unsafe { key_of(key) };
    }
    // SAFETY: the arguments are those that libcrypto would pass.
    unsafe { set_params(context, params) }
}

unsafe extern "C" fn settable_params(_context: *mut c_void, _provider: *mut c_void) -> *const OSSL_PARAM {
    static SETTABLE: Description<4> = Description::new([
        described(c"pad-mode", ffi::OSSL_PARAM_INTEGER),
        described(c"tls-client-version", ffi::OSSL_PARAM_UNSIGNED_INTEGER),
        described(c"tls-negotiated-version", ffi::OSSL_PARAM_UNSIGNED_INTEGER),
        LAST,
    ]);
    SETTABLE.as_ptr()
}

/// Sets the padding and the offered version. The negotiated version is ignored, so SSL_OP_TLS_ROLLBACK_BUG, which a
/// program may set, has no effect here.
unsafe extern "C" fn set_params(context: *mut c_void, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: libcrypto passes a context of this provider, without other users.
    let Some(context) = (unsafe { context.cast::<Context>().as_mut() }) else { return 0 };
    if params.is_null() {
        return 1;
    }
    // SAFETY: libcrypto passes a terminated array; the names are C strings.
    let (padding, version) = unsafe {
        let find = |name: &std::ffi::CStr| openssl_sys::OSSL_PARAM_locate_const(params, name.as_ptr());
        (find(c"pad-mode"), find(c"tls-client-version"))
    };
    let (mut number, mut offered): (c_int, c_uint) = (0, 0);
    // SAFETY: the parameters that were found are in the array of libcrypto.
    unsafe {
        if !padding.is_null() {
            context.tls =
                ffi::OSSL_PARAM_get_int(padding, &mut number) == 1 && number == PKCS1_WITH_TLS_PADDING;
        }
        if !version.is_null() && ffi::OSSL_PARAM_get_uint(version, &mut offered) != 1 {
            return 0;
        }
    }
    if !version.is_null() {
        let Ok(offered) = u16::try_from(offered) else { return 0 };
        context.version = offered;
    }
    1
}

unsafe extern "C" fn decrypt(
    context: *mut c_void,
    secret: *mut c_uchar,
    length: *mut usize,
    room: usize,
    ciphertext: *const c_uchar,
    ciphertext_length: usize,
) -> c_int {
    // SAFETY: libcrypto passes a context of this provider, without other users.
    let Some(context) = (unsafe { context.cast::<Context>().as_ref() }) else { return 0 };
    let Some(owner) = context.key.as_ref().and_then(|key| key.owner.as_ref()).filter(|_| context.tls) else {
        return 0;
    };
    // SAFETY: libcrypto passes a pointer to be filled in with the size.
    unsafe { *length = PRE_MASTER };
    if secret.is_null() {
        return 1;
    }
    if ciphertext.is_null() || room < PRE_MASTER {
        return 0;
    }
    // SAFETY: libcrypto passes a ciphertext of this length.
    let ciphertext = unsafe { std::slice::from_raw_parts(ciphertext, ciphertext_length) };
    let made = ask(|signer| signer.decrypt(&owner.name, owner.key_id, context.version, ciphertext));
    let Some(made) = made else { return 0 };
    // SAFETY: `secret` has `room` bytes, which is enough.
    unsafe { std::ptr::copy_nonoverlapping(made.0.as_ptr(), secret, made.0.len()) };
    1
}
