//! OpenSSL's parameter arrays, copied to and from values that Rust owns.

use crate::ffi;
use openssl_sys::OSSL_PARAM;
use std::ffi::{CStr, c_int};
use std::ptr;

/// One parameter of the public half of a key, or a parameter of this provider, with its bytes in the layout of
/// libcrypto. A text ends with a zero byte that its size does not count, because libcrypto reads up to the zero byte,
/// whatever the size is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: &'static CStr,
    pub(super) kind: u32,
    pub(super) bytes: Vec<u8>,
}

pub(super) const MODULUS: &CStr = c"n";
pub(super) const EXPONENT: &CStr = c"e";
pub(super) const GROUP: &CStr = c"group";
pub(super) const POINT: &CStr = c"pub";
/// The name of the identity. Other providers do not have this parameter.
pub(super) const IDENTITY: &CStr = c"luassl-identity";
/// The SHA-256 of the public key.
pub(super) const KEY_ID: &CStr = c"luassl-key-id";
/// Bits, security bits and the length of the longest signature in bytes: three native integers.
pub(super) const SIZES: &CStr = c"luassl-sizes";

/// The parameters of a public half, for all algorithms together. No private parameter is included.
const PUBLIC: [(&CStr, u32); 4] = [
    (MODULUS, ffi::OSSL_PARAM_UNSIGNED_INTEGER),
    (EXPONENT, ffi::OSSL_PARAM_UNSIGNED_INTEGER),
    (GROUP, ffi::OSSL_PARAM_UTF8_STRING),
    (POINT, ffi::OSSL_PARAM_OCTET_STRING),
];

const OWN: [(&CStr, u32); 3] = [
    (IDENTITY, ffi::OSSL_PARAM_OCTET_STRING),
    (KEY_ID, ffi::OSSL_PARAM_OCTET_STRING),
    (SIZES, ffi::OSSL_PARAM_OCTET_STRING),
];

/// Copies the parameters of a public half, and those of this provider, out of an array.
///
/// # Safety
/// `params` must be null or an array that ends with a null key.
pub(super) unsafe fn read_parts(params: *const OSSL_PARAM) -> Vec<Part> {
    let known = PUBLIC.iter().chain(&OWN);
    // SAFETY: the caller guarantees it.
    known.filter_map(|&(name, kind)| unsafe { read_part(params, name, kind) }).collect()
}

unsafe fn read_part(params: *const OSSL_PARAM, name: &'static CStr, kind: u32) -> Option<Part> {
    if params.is_null() {
        return None;
    }
    // SAFETY: the caller's array ends with a null key; the name is a C string.
    let found = unsafe { openssl_sys::OSSL_PARAM_locate_const(params, name.as_ptr()).as_ref() }?;
    if found.data_type != kind || found.data.is_null() {
        return None;
    }
    // SAFETY: for these types, `data` is a buffer of `data_size` bytes.
    let mut bytes = unsafe { std::slice::from_raw_parts(found.data.cast::<u8>(), found.data_size) }.to_vec();
    if kind == ffi::OSSL_PARAM_UTF8_STRING {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        bytes.push(0);
    }
    Some(Part { name, kind, bytes })
}

/// Returns a terminated array that points into `parts`.
pub(super) fn borrow<'a>(parts: impl Iterator<Item = &'a Part>) -> Vec<OSSL_PARAM> {
    parts.map(param).chain([end()]).collect()
}

fn param(part: &Part) -> OSSL_PARAM {
    let uncounted = usize::from(part.kind == ffi::OSSL_PARAM_UTF8_STRING);
    // Readers of the array do not write through it, as is the rule for readers of OSSL_PARAM.
    OSSL_PARAM {
        key: part.name.as_ptr(),
        data_type: part.kind,
        data: part.bytes.as_ptr().cast_mut().cast(),
        data_size: part.bytes.len().saturating_sub(uncounted),
        return_size: usize::MAX,
    }
}

const fn end() -> OSSL_PARAM {
    OSSL_PARAM { key: ptr::null(), data_type: 0, data: ptr::null_mut(), data_size: 0, return_size: 0 }
}

/// Returns whether other providers also have this parameter.
pub(super) fn is_public(part: &Part) -> bool {
    PUBLIC.iter().any(|&(name, _)| name == part.name)
}

/// A static description of parameters that may be requested, imported or set.
#[repr(transparent)]
pub(super) struct Description<const N: usize>([OSSL_PARAM; N]);

// SAFETY: it holds only pointers to static names.
unsafe impl<const N: usize> Sync for Description<N> {}

impl<const N: usize> Description<N> {
    /// Returns a description of `entries`, the last of which must be [`LAST`].
    pub(super) const fn new(entries: [OSSL_PARAM; N]) -> Self {
        Self(entries)
    }

    pub(super) fn as_ptr(&'static self) -> *const OSSL_PARAM {
        self.0.as_ptr()
    }
}

pub(super) const LAST: OSSL_PARAM = end();

pub(super) const fn described(name: &'static CStr, data_type: u32) -> OSSL_PARAM {
    OSSL_PARAM { key: name.as_ptr(), data_type, data: ptr::null_mut(), data_size: 0, return_size: usize::MAX }
}

/// Answers a request for an integer, if there is one.
///
/// # Safety
/// `params` must be an array of requests that ends with a null key.
pub(super) unsafe fn answer_int(params: *mut OSSL_PARAM, name: &CStr, value: usize) -> bool {
    // SAFETY: the caller guarantees it; the name is a C string.
    let asked = unsafe { openssl_sys::OSSL_PARAM_locate(params, name.as_ptr()) };
    let value = c_int::try_from(value).unwrap_or(c_int::MAX);
    // SAFETY: `asked` was found in the caller's array.
    asked.is_null() || unsafe { ffi::OSSL_PARAM_set_int(asked, value) } == 1
}

/// Answers a request for a text, if there is one.
///
/// # Safety
/// As [`answer_int`].
pub(super) unsafe fn answer_text(params: *mut OSSL_PARAM, name: &CStr, value: &CStr) -> bool {
    // SAFETY: the caller guarantees it; the name is a C string.
    let asked = unsafe { openssl_sys::OSSL_PARAM_locate(params, name.as_ptr()) };
    // SAFETY: `asked` was found in the caller's array; the value is a C string.
    asked.is_null() || unsafe { ffi::OSSL_PARAM_set_utf8_string(asked, value.as_ptr()) } == 1
}
