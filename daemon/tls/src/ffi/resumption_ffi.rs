//! The functions of libssl that resumption needs and the openssl crate lacks.

use crate::resumption::tickets::{Keys, Opened, Scope, TicketKey};
use foreign_types_shared::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContextBuilder, SslOptions, SslRef, SslSession, SslSessionRef};
use openssl_sys::{ASN1_TIME, EVP_CIPHER_CTX, OSSL_PARAM, SSL, SSL_CTX, SSL_SESSION, X509};
use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

/// `EVP_MAC_CTX`
enum MacContext {}

type TicketKeyCallback = unsafe extern "C" fn(
    *mut SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut EVP_CIPHER_CTX,
    *mut MacContext,
    c_int,
) -> c_int;
type GenerateCallback = unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int;
type DecryptCallback =
    unsafe extern "C" fn(*mut SSL, *mut SSL_SESSION, *const c_uchar, usize, c_int, *mut c_void) -> c_int;
type InfoCallback = unsafe extern "C" fn(*const SSL, c_int, c_int);

unsafe extern "C" {
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        context: *mut SSL_CTX,
        callback: Option<TicketKeyCallback>,
    ) -> c_int;
    fn SSL_CTX_set_session_ticket_cb(
        context: *mut SSL_CTX,
        generate: Option<GenerateCallback>,
        decrypt: Option<DecryptCallback>,
        argument: *mut c_void,
    ) -> c_int;
    fn SSL_CTX_set_info_callback(context: *mut SSL_CTX, callback: Option<InfoCallback>);
    fn SSL_CTX_set_timeout(context: *mut SSL_CTX, seconds: c_long) -> c_long;
    fn SSL_set_options(ssl: *mut SSL, options: u64) -> u64;
    fn SSL_get_options(ssl: *const SSL) -> u64;
    fn SSL_set_session_id_context(ssl: *mut SSL, context: *const c_uchar, length: c_uint) -> c_int;
    fn SSL_SESSION_dup(session: *const SSL_SESSION) -> *mut SSL_SESSION;
    fn SSL_SESSION_is_resumable(session: *const SSL_SESSION) -> c_int;
    fn SSL_SESSION_get0_peer(session: *mut SSL_SESSION) -> *mut X509;
    fn SSL_SESSION_set1_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *const c_void,
        length: usize,
    ) -> c_int;
    fn SSL_SESSION_get0_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *mut *mut c_void,
        length: *mut usize,
    ) -> c_int;
    fn X509_get0_notAfter(certificate: *const X509) -> *const ASN1_TIME;
    fn X509_cmp_current_time(time: *const ASN1_TIME) -> c_int;
    fn EVP_MAC_CTX_set_params(context: *mut MacContext, params: *const OSSL_PARAM) -> c_int;
}

/// Decides what happens to tickets and sessions.
pub(crate) trait Decider {
    /// Returns the keys to seal a server's ticket with.
    fn seal(ssl: &SslRef) -> Option<Arc<Keys>>;

    /// Finds the key that a ticket names.
    fn open(ssl: &SslRef, name: &[u8; 16]) -> Option<Opened>;

    /// Returns whether the session in a ticket may still be resumed, by its age and its peer's certificate.
    fn is_fresh(session: &SslSessionRef) -> bool;

    /// Returns the origin that a ticket carries.
    fn origin(session: &SslSessionRef) -> [u8; 8];

    /// Handles an [`Event`].
    fn observe(ssl: &SslRef, event: Event);
}

/// Makes a context seal and open tickets with keys of `D`. `D` also decides what else happens to tickets.
pub(crate) fn use_ticket_keys<D: Decider>(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    let context = context.as_ptr();
    // SAFETY: the context is alive, and the callbacks are functions of this module without an argument pointer.
    let set = unsafe {
        SSL_CTX_set_tlsext_ticket_key_evp_cb(context, Some(ticket_key::<D>)) == 1
            && SSL_CTX_set_session_ticket_cb(
                context,
                Some(generated::<D>),
                Some(decrypted::<D>),
                ptr::null_mut(),
            ) == 1
    };
    if set { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Sets how long sessions of a context can be resumed, in seconds.
pub(crate) fn set_timeout(context: &mut SslContextBuilder, seconds: u32) {
    // SAFETY: the context is alive.
    unsafe { SSL_CTX_set_timeout(context.as_ptr(), c_long::from(seconds)) };
}

/// The events that [`watch`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A handshake, or a message after it, is complete.
    Done,
    /// A fatal alert was received or sent.
    Failed,
}

/// Notifies `D` of the ends of handshakes and of fatal alerts.
pub(crate) fn watch<D: Decider>(context: &mut SslContextBuilder) {
    // SAFETY: the context is alive.
    unsafe { SSL_CTX_set_info_callback(context.as_ptr(), Some(info::<D>)) };
}

unsafe extern "C" fn info<D: Decider>(ssl: *const SSL, what: c_int, value: c_int) {
    const HANDSHAKE_DONE: c_int = 0x20;
    const ALERT: c_int = 0x4000;
    const FATAL: c_int = 2;
    let event = match what {
        HANDSHAKE_DONE => Event::Done,
        _ if what & ALERT != 0 && value >> 8 == FATAL => Event::Failed,
        _ => return,
    };
    // SAFETY: libssl calls with a live session, which has no other user during the call.
    D::observe(unsafe { SslRef::from_ptr(ssl.cast_mut()) }, event);
}

/// Sets the scope of a session. Sessions of another scope are then unknown to it.
pub(crate) fn set_scope(ssl: &mut SslRef, scope: &Scope) -> Result<(), ErrorStack> {
    // SAFETY: the session is alive; the bytes are copied, and their number is the maximum that libssl accepts.
    let set = unsafe { SSL_set_session_id_context(ssl.as_ptr(), scope.as_ptr(), 32) };
    if set == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Makes a session use session ids in place of tickets.
pub(crate) fn leave_out_tickets(ssl: &mut SslRef) {
    // SAFETY: the session is alive.
    unsafe { SSL_set_options(ssl.as_ptr(), SslOptions::NO_TICKET.bits()) };
}

/// Returns whether session ids are used in place of tickets.
pub(crate) fn leaves_out_tickets(ssl: &SslRef) -> bool {
    // SAFETY: the session is alive.
    let options = unsafe { SSL_get_options(ssl.as_ptr()) };
    options & SslOptions::NO_TICKET.bits() != 0
}

/// Offers a session to the server.
pub(crate) fn offer(ssl: &mut Ssl, session: &SslSessionRef) -> Result<(), ErrorStack> {
    // SAFETY: only the internal cache ties a session to a context, and no context here has such a cache; this session
    // was made under a context with the same settings (the scope).
    unsafe { ssl.set_session(session) }
}

/// Sets the callback with which servers find sessions by their id.
pub(crate) fn find_sessions_by<F>(context: &mut SslContextBuilder, find: F)
where
    F: Fn(&mut SslRef, &[u8]) -> Option<SslSession> + Send + Sync + 'static,
{
    // SAFETY: as for `offer`.
    unsafe { context.set_get_session_callback(find) }
}

/// Returns a separate session with the same secrets. A connection marks its session as not resumable if it ends without
/// a close message. The kept session must not be affected by that.
pub(crate) fn duplicate(session: &SslSessionRef) -> Option<SslSession> {
    // SAFETY: the session is alive, and is only read.
    let copy = unsafe { SSL_SESSION_dup(session.as_ptr()) };
    if copy.is_null() {
        return None;
    }
    // SAFETY: it is a new session that this code owns.
    Some(unsafe { SslSession::from_ptr(copy) })
}

/// Returns whether a session can be resumed.
pub(crate) fn is_resumable(session: &SslSessionRef) -> bool {
    // SAFETY: the session is alive.
    unsafe { SSL_SESSION_is_resumable(session.as_ptr()) == 1 }
}

/// Returns whether the certificate that the peer proved has expired since.
pub(crate) fn peer_has_expired(session: &SslSessionRef) -> bool {
    // SAFETY: the session is alive, and so are its certificate, if there is one, and the date of the certificate.
    unsafe {
        let peer = SSL_SESSION_get0_peer(session.as_ptr());
        !peer.is_null() && X509_cmp_current_time(X509_get0_notAfter(peer)) <= 0
    }
}

/// Returns the data that [`set_ticket_appdata`] stored in a session. Tickets carry this data.
pub(crate) fn ticket_appdata(session: &SslSessionRef) -> Option<[u8; 8]> {
    let (mut data, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the session is alive; the returned bytes belong to it and are copied at once.
    unsafe {
        SSL_SESSION_get0_ticket_appdata(session.as_ptr(), &raw mut data, &raw mut length);
        if data.is_null() || length != 8 {
            return None;
        }
        Some(data.cast::<[u8; 8]>().read())
    }
}

pub(crate) fn set_ticket_appdata(session: &SslSessionRef, ticket_appdata: [u8; 8]) -> bool {
    // SAFETY: the session is alive and has no other user, because no ticket of it was sent yet; the bytes are copied.
    unsafe {
        SSL_SESSION_set1_ticket_appdata(
            session.as_ptr(),
            ticket_appdata.as_ptr().cast(),
            ticket_appdata.len(),
        ) == 1
    }
}

/// The callback before a session is sealed in a ticket.
unsafe extern "C" fn generated<D: Decider>(ssl: *mut SSL, _: *mut c_void) -> c_int {
    // SAFETY: libssl calls with a live session.
    let ssl = unsafe { SslRef::from_ptr(ssl) };
    let Some(session) = ssl.session() else { return 0 };
    if ticket_appdata(session).is_some() {
        return 1;
    }
    c_int::from(set_ticket_appdata(session, D::origin(session)))
}

/// The callback after a ticket was opened, or could not be opened.
unsafe extern "C" fn decrypted<D: Decider>(
    _: *mut SSL,
    session: *mut SSL_SESSION,
    _: *const c_uchar,
    _: usize,
    status: c_int,
    _: *mut c_void,
) -> c_int {
    // <openssl/ssl.h>: SSL_TICKET_STATUS and SSL_TICKET_RETURN.
    const EMPTY: c_int = 3;
    const OF_AN_UNKNOWN_KEY: c_int = 4;
    const OPENED: c_int = 5;
    const OPENED_AND_DUE: c_int = 6;
    const ABORT: c_int = 0;
    const IGNORE_RENEW: c_int = 2;
    const USE: c_int = 3;
    const USE_RENEW: c_int = 4;
    // SAFETY: the session from the ticket is alive during the call.
    let is_fresh = || !session.is_null() && D::is_fresh(unsafe { SslSessionRef::from_ptr(session) });
    match status {
        EMPTY | OF_AN_UNKNOWN_KEY => IGNORE_RENEW,
        OPENED if is_fresh() => USE,
        OPENED_AND_DUE if is_fresh() => USE_RENEW,
        OPENED | OPENED_AND_DUE => IGNORE_RENEW,
        _ => ABORT,
    }
}

/// `SSL_CTX_set_tlsext_ticket_key_evp_cb(3)`
unsafe extern "C" fn ticket_key<D: Decider>(
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut MacContext,
    seal: c_int,
) -> c_int {
    const FAILED: c_int = -1;
    const UNKNOWN: c_int = 0;
    // SAFETY: libssl calls with a live session, and with 16 bytes at each of `name` and `iv`.
    let (ssl, name, iv) =
        unsafe { (SslRef::from_ptr(ssl), &mut *name.cast::<[u8; 16]>(), &mut *iv.cast::<[u8; 16]>()) };
    if seal == 1 {
        let Some(keys) = D::seal(ssl) else { return UNKNOWN };
        let key = keys.sealing();
        *name = *key.name();
        if openssl::rand::rand_bytes(iv).is_err() {
            return FAILED;
        }
        // SAFETY: both contexts belong to libssl and are alive.
        return if unsafe { prepare(key, iv, cipher, mac, true) } { 1 } else { FAILED };
    }
    let Some(Opened { keys, renew }) = D::open(ssl, name) else { return UNKNOWN };
    let Some((key, _)) = keys.opening(name) else { return UNKNOWN };
    // SAFETY: as above.
    match unsafe { prepare(key, iv, cipher, mac, false) } {
        true if renew => 2,
        true => 1,
        false => FAILED,
    }
}

/// Prepares AES-256-CBC and HMAC-SHA-256. libssl combines the two in this way (RFC 5077, 4), and supports no AEAD here.
///
/// # Safety
/// Both contexts are alive.
unsafe fn prepare(
    key: &TicketKey,
    iv: &[u8; 16],
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut MacContext,
    seal: bool,
) -> bool {
    let digest = c"SHA256";
    let param = |name: *const c_char, data_type, data: *const u8, data_size| OSSL_PARAM {
        key: name,
        data_type,
        data: data.cast_mut().cast(),
        data_size,
        return_size: usize::MAX,
    };
    let (cipher_key, iv) = (key.cipher().as_ptr(), iv.as_ptr());
    // SAFETY: the caller guarantees that the contexts are alive; key and iv have the lengths of the cipher; the
    // parameters point to live bytes that are only read, and are terminated.
    unsafe {
        let params = [
            param(c"key".as_ptr(), crate::ffi::OSSL_PARAM_OCTET_STRING, key.mac().as_ptr(), key.mac().len()),
            param(
                c"digest".as_ptr(),
                crate::ffi::OSSL_PARAM_UTF8_STRING,
                digest.as_ptr().cast(),
                digest.count_bytes(),
            ),
            openssl_sys::OSSL_PARAM_construct_end(),
        ];
        let algorithm = openssl_sys::EVP_aes_256_cbc();
        let initialise = if seal { openssl_sys::EVP_EncryptInit_ex } else { openssl_sys::EVP_DecryptInit_ex };
        initialise(cipher, algorithm, ptr::null_mut(), cipher_key, iv) == 1
            && EVP_MAC_CTX_set_params(mac, params.as_ptr()) == 1
    }
}

/// Returns the bytes of the server name that a ClientHello requests (RFC 6066, 3). Must be called only from the
/// ClientHello callback.
pub(crate) fn asked_name(ssl: &mut SslRef) -> Option<Vec<u8>> {
    const SERVER_NAME: c_uint = 0;
    let (mut data, mut length) = (ptr::null(), 0);
    // SAFETY: the session is alive and in its ClientHello callback; the returned bytes live as long as the callback
    // runs.
    let extension = unsafe {
        let found =
            openssl_sys::SSL_client_hello_get0_ext(ssl.as_ptr(), SERVER_NAME, &raw mut data, &raw mut length);
        if found != 1 || data.is_null() {
            return None;
        }
        std::slice::from_raw_parts(data, length)
    };
    crate::names::name_in(extension).map(<[u8]>::to_vec)
}
