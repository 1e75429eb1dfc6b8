//! The threads that may wait for a signature.
//!
//! A signature is a call to the keeper, which blocks. Handshake threads may block, but pump threads may not. On a pump
//! thread, an operation that would sign (a renegotiation, authentication after the handshake) is suspended with
//! SSL_ERROR_WANT_X509_LOOKUP.

use crate::ffi::message_ffi::Gate;
use crate::handshake::peer_bounds;
use openssl::ssl::SslRef;
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    static MAY_SIGN: Cell<bool> = const { Cell::new(false) };
}

/// Sets whether this thread may wait for signatures. By default a thread may not.
pub fn may_sign(may: bool) {
    MAY_SIGN.set(may);
}

/// Returns whether this thread may wait for signatures.
#[must_use]
pub fn signing_is_allowed() -> bool {
    MAY_SIGN.get()
}

/// Decides by the thread that runs the session.
pub(crate) enum ByThread {}

impl Gate for ByThread {
    fn may_go_on(ssl: &SslRef) -> c_int {
        const GO_ON: c_int = 1;
        const FAIL: c_int = 0;
        const SUSPEND: c_int = -1;
        if peer_bounds::excess(ssl).is_some() {
            return FAIL;
        }
        if MAY_SIGN.get() { GO_ON } else { SUSPEND }
    }
}
