//! Key management: the functions that libcrypto calls on a key object.

use crate::ffi::{self, Algorithm, Dispatch, ParamsCallback};
use crate::provider::algorithm::algorithm;
use crate::provider::key::{Key, KeyKind};
use crate::provider::params::{self, Description, LAST, described};
use openssl_sys::{
    OSSL_KEYMGMT_SELECT_PRIVATE_KEY as SELECT_PRIVATE, OSSL_KEYMGMT_SELECT_PUBLIC_KEY as SELECT_PUBLIC,
    OSSL_PARAM,
};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, OnceLock};

const RSA: u8 = 0;
const EC: u8 = 1;
const ED25519: u8 = 2;
const ED448: u8 = 3;

pub(super) static ALGORITHMS: [Algorithm; 5] = [
    algorithm(c"RSA:rsaEncryption:1.2.840.113549.1.1.1", &RSA_FUNCTIONS),
    algorithm(c"EC:id-ecPublicKey:1.2.840.10045.2.1", &EC_FUNCTIONS),
    algorithm(c"ED25519:1.3.101.112", &ED25519_FUNCTIONS),
    algorithm(c"ED448:1.3.101.113", &ED448_FUNCTIONS),
    Algorithm::END,
];

static RSA_FUNCTIONS: [Dispatch; 12] = functions::<RSA>();
static EC_FUNCTIONS: [Dispatch; 12] = functions::<EC>();
static ED25519_FUNCTIONS: [Dispatch; 12] = functions::<ED25519>();
static ED448_FUNCTIONS: [Dispatch; 12] = functions::<ED448>();

/// One entry of a function table.
macro_rules! entry {
    ($id:literal, $function:expr, $type:ty) => {
        Dispatch {
            function_id: $id,
            // SAFETY: libcrypto casts it back to the type that the number of the function stands for.
            function: Some(unsafe { std::mem::transmute::<$type, unsafe extern "C" fn()>($function) }),
        }
    };
}
pub(super) use entry;

type Types = unsafe extern "C" fn(c_int) -> *const OSSL_PARAM;

const fn functions<const KIND: u8>() -> [Dispatch; 12] {
    [
        entry!(1, new::<KIND>, unsafe extern "C" fn(*mut c_void) -> *mut c_void),
        entry!(10, free, unsafe extern "C" fn(*mut c_void)),
        entry!(11, get_params, unsafe extern "C" fn(*mut c_void, *mut OSSL_PARAM) -> c_int),
        entry!(12, gettable_params, unsafe extern "C" fn(*mut c_void) -> *const OSSL_PARAM),
        entry!(20, query_operation_name::<KIND>, unsafe extern "C" fn(c_int) -> *const c_char),
        entry!(21, has, unsafe extern "C" fn(*const c_void, c_int) -> c_int),
        entry!(23, matches, unsafe extern "C" fn(*const c_void, *const c_void, c_int) -> c_int),
        entry!(40, import, unsafe extern "C" fn(*mut c_void, c_int, *const OSSL_PARAM) -> c_int),
        entry!(41, types::<KIND>, Types),
        entry!(
            42,
            export,
            unsafe extern "C" fn(*mut c_void, c_int, Option<ParamsCallback>, *mut c_void) -> c_int
        ),
        entry!(43, types::<KIND>, Types),
        Dispatch::END,
    ]
}

/// A key object as libcrypto uses it: created empty, then filled once.
struct KeyObject {
    kind: KeyKind,
    key: OnceLock<Arc<Key>>,
}

/// Returns the key in a key object.
///
/// # Safety
/// `object` must be null, or come from this provider's `new` and not be freed yet.
pub(super) unsafe fn key_of(object: *const c_void) -> Option<Arc<Key>> {
    // SAFETY: the caller guarantees it.
    unsafe { borrowed(object) }?.key.get().cloned()
}

unsafe fn borrowed<'a>(object: *const c_void) -> Option<&'a KeyObject> {
    // SAFETY: the caller guarantees what `key_of` requires; the object is shared, and changed only through its cell.
    unsafe { object.cast::<KeyObject>().as_ref() }
}

unsafe extern "C" fn new<const KIND: u8>(_provider_context: *mut c_void) -> *mut c_void {
    let object = KeyObject { kind: KeyKind::from_index(KIND), key: OnceLock::new() };
    Box::into_raw(Box::new(object)).cast()
}

unsafe extern "C" fn free(object: *mut c_void) {
    if !object.is_null() {
        // SAFETY: it came from `new`, and libcrypto frees it once.
        drop(unsafe { Box::from_raw(object.cast::<KeyObject>()) });
    }
}

unsafe extern "C" fn import(object: *mut c_void, _selection: c_int, params: *const OSSL_PARAM) -> c_int {
    // SAFETY: libcrypto passes an object of this provider and a terminated array.
    let (object, parts) = unsafe { (borrowed(object), params::read_parts(params)) };
    let Some(object) = object else { return 0 };
    let Some(key) = Key::from_parts(object.kind, parts) else { return 0 };
    c_int::from(object.key.set(Arc::new(key)).is_ok())
}

unsafe extern "C" fn export(
    object: *mut c_void,
    selection: c_int,
    callback: Option<ParamsCallback>,
    argument: *mut c_void,
) -> c_int {
    // There is no private half to export. After a refusal, libcrypto signs with the provider that has the key: this
    // one.
    if selection & SELECT_PRIVATE != 0 {
        return 0;
    }
    // SAFETY: libcrypto passes an object of this provider.
    let (Some(key), Some(callback)) = (unsafe { key_of(object) }, callback) else { return 0 };
    let array = params::borrow(key.parts.iter());
    // SAFETY: the array and the data that it points to outlive the call.
    unsafe { callback(array.as_ptr(), argument) }
}

unsafe extern "C" fn types<const KIND: u8>(selection: c_int) -> *const OSSL_PARAM {
    static RSA_TYPES: Description<3> = Description::new([
        described(params::MODULUS, ffi::OSSL_PARAM_UNSIGNED_INTEGER),
        described(params::EXPONENT, ffi::OSSL_PARAM_UNSIGNED_INTEGER),
        LAST,
    ]);
    static EC_TYPES: Description<3> = Description::new([
        described(params::GROUP, ffi::OSSL_PARAM_UTF8_STRING),
        described(params::POINT, ffi::OSSL_PARAM_OCTET_STRING),
        LAST,
    ]);
    static EDWARDS_TYPES: Description<2> =
        Description::new([described(params::POINT, ffi::OSSL_PARAM_OCTET_STRING), LAST]);
    if selection & SELECT_PUBLIC == 0 {
        return ptr::null();
    }
    match KeyKind::from_index(KIND) {
        KeyKind::Rsa => RSA_TYPES.as_ptr(),
        KeyKind::Ec => EC_TYPES.as_ptr(),
        KeyKind::Ed25519 | KeyKind::Ed448 => EDWARDS_TYPES.as_ptr(),
    }
}

unsafe extern "C" fn has(object: *const c_void, selection: c_int) -> c_int {
    // SAFETY: libcrypto passes an object of this provider.
    let Some(key) = (unsafe { key_of(object) }) else { return 0 };
    c_int::from(selection & SELECT_PRIVATE == 0 || key.owner.is_some())
}

unsafe extern "C" fn matches(one: *const c_void, other: *const c_void, _selection: c_int) -> c_int {
    // SAFETY: libcrypto passes two objects of this provider.
    let keys = unsafe { key_of(one).zip(key_of(other)) };
    c_int::from(keys.is_some_and(|(one, other)| one.matches(&other)))
}

unsafe extern "C" fn gettable_params(_provider_context: *mut c_void) -> *const OSSL_PARAM {
    static GETTABLE: Description<7> = Description::new([
        described(c"bits", ffi::OSSL_PARAM_INTEGER),
        described(c"security-bits", ffi::OSSL_PARAM_INTEGER),
        described(c"max-size", ffi::OSSL_PARAM_INTEGER),
        described(c"default-digest", ffi::OSSL_PARAM_UTF8_STRING),
        described(c"mandatory-digest", ffi::OSSL_PARAM_UTF8_STRING),
        described(params::GROUP, ffi::OSSL_PARAM_UTF8_STRING),
        LAST,
    ]);
    GETTABLE.as_ptr()
}

unsafe extern "C" fn get_params(object: *mut c_void, params: *mut OSSL_PARAM) -> c_int {
    // SAFETY: libcrypto passes an object of this provider.
    let Some(key) = (unsafe { key_of(object) }) else { return 0 };
    // SAFETY: libcrypto passes a terminated array of requests.
    let answered = unsafe {
        params::answer_int(params, c"bits", key.bits)
            && params::answer_int(params, c"security-bits", key.security_bits)
            && params::answer_int(params, c"max-size", key.signature_size)
            && answer_digest(params, key.kind)
            && key.group.as_ref().is_none_or(|group| params::answer_text(params, params::GROUP, group))
    };
    c_int::from(answered)
}

unsafe fn answer_digest(params: *mut OSSL_PARAM, kind: KeyKind) -> bool {
    // SAFETY: the caller passes the array of libcrypto.
    unsafe {
        match kind {
            // An empty name means that the algorithm requires no digest from the caller.
            KeyKind::Ed25519 | KeyKind::Ed448 => params::answer_text(params, c"mandatory-digest", c""),
            KeyKind::Rsa | KeyKind::Ec => params::answer_text(params, c"default-digest", c"SHA256"),
        }
    }
}

unsafe extern "C" fn query_operation_name<const KIND: u8>(_operation: c_int) -> *const c_char {
    match KeyKind::from_index(KIND) {
        KeyKind::Rsa => c"RSA".as_ptr(),
        KeyKind::Ec => c"ECDSA".as_ptr(),
        KeyKind::Ed25519 => c"ED25519".as_ptr(),
        KeyKind::Ed448 => c"ED448".as_ptr(),
    }
}
