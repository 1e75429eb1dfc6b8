//! Which threads may wait for a signature.
//!
//! A signature is a call to the keeper, which blocks. Handshake threads may block, pump threads may not: there, what
//! would sign (a renegotiation, authentication after the handshake) is suspended with SSL_ERROR_WANT_X509_LOOKUP.

use openssl_sys::SSL;
use std::cell::Cell;
use std::ffi::{c_int, c_void};

thread_local! {
    static MAY_SIGN: Cell<bool> = const { Cell::new(false) };
}

/// Says whether this thread may wait for signatures; threads may not until they say so.
pub fn may_sign(may: bool) {
    MAY_SIGN.set(may);
}

/// Whether this thread may wait for signatures.
#[must_use]
pub fn signing_is_allowed() -> bool {
    MAY_SIGN.get()
}

/// The callback of `SSL_CTX_set_cert_cb`: go on, or suspend the session.
pub(super) extern "C" fn gate(_ssl: *mut SSL, _argument: *mut c_void) -> c_int {
    const GO_ON: c_int = 1;
    const SUSPEND: c_int = -1;
    if MAY_SIGN.get() { GO_ON } else { SUSPEND }
}
