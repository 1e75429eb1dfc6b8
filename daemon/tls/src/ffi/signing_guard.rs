//! Which threads may wait for a signature.
//!
//! A signature is a call to the keeper, which blocks. Handshake threads may block, pump threads may not: there, what
//! would sign (a renegotiation, authentication after the handshake) is suspended with SSL_ERROR_WANT_X509_LOOKUP.

use crate::ffi::message_ffi::Gate;
use crate::handshake::peer_bounds;
use openssl::ssl::SslRef;
use std::cell::Cell;
use std::ffi::c_int;

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

/// By the thread that a session is on.
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
