//! libssl's callbacks for pre-shared keys, for sessions. The openssl crate has them only for contexts, and a session
//! that changes to another context would then have no callback.

use foreign_types_shared::ForeignTypeRef;
use luassl_protocol::PskKey;
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl_sys::SSL;
use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint};
use std::ptr;

type ServerCallback = unsafe extern "C" fn(*mut SSL, *const c_char, *mut c_uchar, c_uint) -> c_uint;
type ClientCallback =
    unsafe extern "C" fn(*mut SSL, *const c_char, *mut c_char, c_uint, *mut c_uchar, c_uint) -> c_uint;

unsafe extern "C" {
    fn SSL_set_psk_server_callback(ssl: *mut SSL, callback: Option<ServerCallback>);
    fn SSL_set_psk_client_callback(ssl: *mut SSL, callback: Option<ClientCallback>);
    fn SSL_use_psk_identity_hint(ssl: *mut SSL, hint: *const c_char) -> c_int;
}

/// A source of the keys of sessions.
pub(crate) trait Keys {
    /// Returns the key that a client names to a server.
    fn named(ssl: &SslRef, identity: &[u8], max_key: u32) -> Option<PskKey>;

    /// Returns the key that a client uses. `most` limits the lengths of its identity and of the key.
    fn own(ssl: &SslRef, hint: Option<&[u8]>, most: (u32, u32)) -> Option<PskKey>;
}

/// Makes a server's session call [`Keys::named`].
pub(crate) fn serve<K: Keys>(ssl: &mut SslRef, hint: Option<&CStr>) -> Result<(), ErrorStack> {
    // SAFETY: the session is alive; the callback has no argument pointer, and libssl copies the hint.
    let set = unsafe {
        SSL_set_psk_server_callback(ssl.as_ptr(), Some(server::<K>));
        hint.is_none_or(|hint| SSL_use_psk_identity_hint(ssl.as_ptr(), hint.as_ptr()) == 1)
    };
    if set { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Makes a client's session call [`Keys::own`].
pub(crate) fn offer<K: Keys>(ssl: &mut SslRef) {
    // SAFETY: the session is alive, and the callback has no argument pointer.
    unsafe { SSL_set_psk_client_callback(ssl.as_ptr(), Some(client::<K>)) };
}

/// The result of both callbacks if there is no key.
const NONE: c_uint = 0;

unsafe extern "C" fn server<K: Keys>(
    ssl: *mut SSL,
    identity: *const c_char,
    key: *mut c_uchar,
    max_key: c_uint,
) -> c_uint {
    if identity.is_null() {
        return NONE;
    }
    // SAFETY: libssl calls with its session, which outlives the call, and with a C string.
    let (ssl, identity) = unsafe { (SslRef::from_ptr(ssl), CStr::from_ptr(identity)) };
    let Some(found) = K::named(ssl, identity.to_bytes(), max_key) else { return NONE };
    // SAFETY: there is room for `max_key` bytes.
    unsafe { put(found.key.bytes(), key, max_key) }
}

unsafe extern "C" fn client<K: Keys>(
    ssl: *mut SSL,
    hint: *const c_char,
    identity: *mut c_char,
    max_identity: c_uint,
    key: *mut c_uchar,
    max_key: c_uint,
) -> c_uint {
    // SAFETY: libssl calls with its session, which outlives the call, and with a C string or null.
    let (ssl, hint) =
        unsafe { (SslRef::from_ptr(ssl), (!hint.is_null()).then(|| CStr::from_ptr(hint).to_bytes())) };
    // The identity ends with a zero byte.
    let longest = max_identity.saturating_sub(1);
    let Some(found) = K::own(ssl, hint, (longest, max_key)) else { return NONE };
    if found.identity.contains(&0) || max_identity == 0 {
        return NONE;
    }
    // SAFETY: there is room for `max_identity` bytes, one of which stays free, and for `max_key`.
    unsafe {
        let length = put(&found.identity, identity.cast(), longest);
        if length == 0 {
            return NONE;
        }
        *identity.add(length as usize) = 0;
        put(found.key.bytes(), key, max_key)
    }
}

/// Writes all of `bytes`, or nothing. Returns the number of bytes written.
///
/// # Safety
/// There is room for `most` bytes.
unsafe fn put(bytes: &[u8], room: *mut c_uchar, most: c_uint) -> c_uint {
    match c_uint::try_from(bytes.len()) {
        Ok(length) if length <= most => {
            // SAFETY: the buffer has the size that the caller guarantees, and does not overlap `bytes`.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len()) };
            length
        }
        _ => NONE,
    }
}
