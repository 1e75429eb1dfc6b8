//! OpenSSL's parameter arrays, copied into and out of values that Rust owns.

use crate::ffi;
use openssl_sys::OSSL_PARAM;
use std::ffi::{CStr, c_int};
use std::ptr;

/// One parameter of a key's public half, or one of our own, with its bytes as libcrypto lays them out. A text ends in a
/// zero byte here, which its size does not count: libcrypto reads up to it, whatever the size.
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
/// The identity's name, which no other provider knows.
pub(super) const IDENTITY: &CStr = c"luassl-identity";
/// The SHA-256 of the public key.
pub(super) const KEY_ID: &CStr = c"luassl-key-id";
/// Bits, security bits and the longest signature in bytes: three native integers.
pub(super) const SIZES: &CStr = c"luassl-sizes";

/// The parameters that make a public half, of all algorithms together. No private one is among them.
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

/// Copies what belongs to a public half out of an array, and our own parameters.
///
/// # Safety
/// `params` must be null or an array that ends with a null key.
pub(super) unsafe fn read_parts(params: *const OSSL_PARAM) -> Vec<Part> {
    let known = PUBLIC.iter().chain(&OWN);
    // SAFETY: the caller's promise.
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
    // SAFETY: of these types, `data` is a buffer of `data_size` bytes.
    let mut bytes = unsafe { std::slice::from_raw_parts(found.data.cast::<u8>(), found.data_size) }.to_vec();
    if kind == ffi::OSSL_PARAM_UTF8_STRING {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        bytes.push(0);
    }
    Some(Part { name, kind, bytes })
}

/// An array that points into `parts`, with its end mark.
pub(super) fn borrow<'a>(parts: impl Iterator<Item = &'a Part>) -> Vec<OSSL_PARAM> {
    parts.map(param).chain([end()]).collect()
}

fn param(part: &Part) -> OSSL_PARAM {
    let uncounted = usize::from(part.kind == ffi::OSSL_PARAM_UTF8_STRING);
    // Whoever reads the array does not write through it, as OSSL_PARAM's readers never do.
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

/// Whether a part is one that other providers know.
pub(super) fn is_public(part: &Part) -> bool {
    PUBLIC.iter().any(|&(name, _)| name == part.name)
}

/// A static description of parameters: what may be asked for, imported or set.
#[repr(transparent)]
pub(super) struct Description<const N: usize>([OSSL_PARAM; N]);

// SAFETY: it holds pointers to static names alone.
unsafe impl<const N: usize> Sync for Description<N> {}

impl<const N: usize> Description<N> {
    /// Of `entries`, the last one of which must be [`LAST`].
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

/// Answers a request for an integer, where it was asked for.
///
/// # Safety
/// `params` must be an array of requests that ends with a null key.
pub(super) unsafe fn answer_int(params: *mut OSSL_PARAM, name: &CStr, value: usize) -> bool {
    // SAFETY: the caller's promise; the name is a C string.
    let asked = unsafe { openssl_sys::OSSL_PARAM_locate(params, name.as_ptr()) };
    let value = c_int::try_from(value).unwrap_or(c_int::MAX);
    // SAFETY: `asked` was found in the caller's array.
    asked.is_null() || unsafe { ffi::OSSL_PARAM_set_int(asked, value) } == 1
}

/// Answers a request for a text, where it was asked for.
///
/// # Safety
/// As [`answer_int`].
pub(super) unsafe fn answer_text(params: *mut OSSL_PARAM, name: &CStr, value: &CStr) -> bool {
    // SAFETY: the caller's promise; the name is a C string.
    let asked = unsafe { openssl_sys::OSSL_PARAM_locate(params, name.as_ptr()) };
    // SAFETY: `asked` was found in the caller's array; the value is a C string.
    asked.is_null() || unsafe { ffi::OSSL_PARAM_set_utf8_string(asked, value.as_ptr()) } == 1
}
