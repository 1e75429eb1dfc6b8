//! Checks the point that a TLS 1.2 server sends for ECDHE.

use crate::crypto::object::{CryptoError, Owned};
use openssl_sys as ffi;
use std::ffi::c_int;
use std::ptr;

/// The codes of named curves (RFC 8422, 5.1.1; RFC 7027, 2), and libcrypto's numbers for them.
const CURVES: [(u16, c_int); 6] = [
    (23, ffi::NID_X9_62_prime256v1),
    (24, ffi::NID_secp384r1),
    (25, ffi::NID_secp521r1),
    (26, ffi::NID_brainpoolP256r1),
    (27, ffi::NID_brainpoolP384r1),
    (28, ffi::NID_brainpoolP512r1),
];

/// Returns whether `point` is on the curve. Every string of the right length is a point of X25519 and X448 (RFC 7748,
/// 5).
///
/// # Errors
/// [`CryptoError`] if libcrypto does not have the curve.
pub(crate) fn is_on_curve(curve: u16, point: &[u8]) -> Result<bool, CryptoError> {
    let Some((_, number)) = CURVES.iter().find(|(code, _)| *code == curve) else { return Ok(true) };
    // SAFETY: a new group, freed by its function.
    let group = unsafe { Owned::new(ffi::EC_GROUP_new_by_curve_name(*number), ffi::EC_GROUP_free)? };
    // SAFETY: the group is live; a new point of it, freed by its function before the group.
    let read = unsafe { Owned::new(ffi::EC_POINT_new(group.as_ptr()), ffi::EC_POINT_free)? };
    // SAFETY: group and point are live, and the bytes are a live slice; libcrypto checks whether the bytes are on the
    // curve.
    let good = unsafe {
        ffi::EC_POINT_oct2point(group.as_ptr(), read.as_ptr(), point.as_ptr(), point.len(), ptr::null_mut())
    };
    if good != 1 {
        // Remove the error from the queue.
        let _ = CryptoError::last();
    }
    Ok(good == 1)
}
