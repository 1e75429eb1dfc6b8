//! libssl's callbacks before it chooses a certificate, and before it processes a message of the peer.

use crate::ffi;
use foreign_types_shared::ForeignTypeRef;
use openssl::ssl::{SslContextBuilder, SslRef};
use openssl_sys::SSL;
use std::ffi::{c_int, c_void};
use std::ptr;

/// Decides whether a session goes on to choose its certificate.
pub(crate) trait Gate {
    /// Returns the result for the callback of `SSL_CTX_set_cert_cb`: 1 to go on, -1 to suspend the session, 0 to fail
    /// it.
    fn may_go_on(ssl: &SslRef) -> c_int;
}

/// Receives the messages of peers.
pub(crate) trait Watch {
    /// Handles a handshake message of the peer that has arrived completely, and is not processed yet.
    fn hear(ssl: &SslRef, bytes: &[u8]) -> Verdict;
}

/// The key exchange of the negotiated cipher, if its ServerKeyExchange has a prime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dhe {
    /// The message begins with the prime.
    Plain,
    /// The message begins with the hint of a PSK, and the prime follows.
    WithPsk,
}

/// The decision on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// libssl processes it.
    Process,
    /// libssl reads no message after this one.
    Stop,
    /// libssl must not compute with the value whose length is at this offset: a prime, or a list of certificates.
    Spoil(usize),
}

/// Calls `G` before each choice of a certificate, on either side.
pub(crate) fn set_certificate_callback<G: Gate>(context: &mut SslContextBuilder) {
    // SAFETY: the context is alive; the callback has no argument pointer.
    unsafe { ffi::SSL_CTX_set_cert_cb(context.as_ptr(), Some(certificate::<G>), ptr::null_mut()) }
}

unsafe extern "C" fn certificate<G: Gate>(ssl: *mut SSL, _argument: *mut c_void) -> c_int {
    // SAFETY: libssl calls with its session, which outlives the call.
    G::may_go_on(unsafe { SslRef::from_ptr(ssl) })
}

/// Calls `W` for every handshake message of peers.
pub(crate) fn watch_peers<W: Watch>(context: &mut SslContextBuilder) {
    // SAFETY: the context is alive.
    unsafe { ffi::SSL_CTX_set_msg_callback(context.as_ptr(), Some(message::<W>)) }
}

unsafe extern "C" fn message<W: Watch>(
    sent: c_int,
    _version: c_int,
    kind: c_int,
    bytes: *const c_void,
    count: usize,
    ssl: *mut SSL,
    _argument: *mut c_void,
) {
    if sent != 0 || kind != ffi::SSL3_RT_HANDSHAKE || bytes.is_null() || ssl.is_null() {
        return;
    }
    // SAFETY: libssl calls with its session and with this number of bytes, both of which outlive the call.
    let (session, message) =
        unsafe { (SslRef::from_ptr(ssl), std::slice::from_raw_parts(bytes.cast::<u8>(), count)) };
    match W::hear(session, message) {
        Verdict::Process => {}
        // SAFETY: the session is alive. libssl then treats later data as data after a close_notify.
        Verdict::Stop => unsafe { openssl_sys::SSL_set_shutdown(ssl, openssl_sys::SSL_RECEIVED_SHUTDOWN) },
        // No message is as long as this length. The callback cannot report a failure, so this makes libssl fail.
        // SAFETY: the message is in the session's buffer, which libssl itself writes and parses after this call; the
        // offset of the verdict is that of two bytes in it, and the shared slice is no longer used.
        Verdict::Spoil(at) => unsafe { ptr::write_bytes(bytes.cast_mut().cast::<u8>().add(at), 0xff, 2) },
    }
}

/// Returns the key exchange of the current handshake, if it includes a prime.
pub(crate) fn pending_dhe(ssl: &SslRef) -> Option<Dhe> {
    // SAFETY: the session is alive; the cipher is null or static.
    let exchange = unsafe {
        let cipher = ffi::SSL_get_pending_cipher(ssl.as_ptr());
        if cipher.is_null() {
            return None;
        }
        ffi::SSL_CIPHER_get_kx_nid(cipher)
    };
    match exchange {
        ffi::NID_KX_DHE => Some(Dhe::Plain),
        ffi::NID_KX_DHE_PSK => Some(Dhe::WithPsk),
        _ => None,
    }
}
