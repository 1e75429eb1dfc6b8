//! The functions of libcrypto and libssl 3 that the openssl-sys crate lacks.

pub(crate) mod memory;
pub(crate) mod message_ffi;
pub(crate) mod psk_ffi;
pub(crate) mod resumption_ffi;
pub(crate) mod safe_ffi;
pub(crate) mod signing_guard;

use openssl::error::ErrorStack;
use openssl_sys::{
    BIO, EVP_PKEY, OSSL_LIB_CTX, OSSL_PARAM, SSL, SSL_CIPHER, SSL_CTX, X509, X509_CRL, X509_NAME, X509_STORE,
    stack_st_X509,
};
use std::ffi::{c_char, c_int, c_uchar, c_uint, c_ulong, c_void};

/// The callback of `SSL_CTX_set_msg_callback`: direction, version, type, bytes and their number, session, argument.
pub(crate) type MessageCallback =
    unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, usize, *mut SSL, *mut c_void);

/// An entry of a provider's function table; the last one is [`Dispatch::END`].
#[repr(C)]
pub(crate) struct Dispatch {
    pub(crate) function_id: c_int,
    pub(crate) function: Option<unsafe extern "C" fn()>,
}

impl Dispatch {
    pub(crate) const END: Self = Self { function_id: 0, function: None };
}

/// An algorithm that a provider offers; the last one is [`Algorithm::END`].
#[repr(C)]
pub(crate) struct Algorithm {
    pub(crate) names: *const c_char,
    pub(crate) properties: *const c_char,
    pub(crate) functions: *const Dispatch,
    pub(crate) capabilities: *const c_char,
}

impl Algorithm {
    pub(crate) const END: Self = Self {
        names: std::ptr::null(),
        properties: std::ptr::null(),
        functions: std::ptr::null(),
        capabilities: std::ptr::null(),
    };
}

// SAFETY: both tables point only to immutable statics.
unsafe impl Sync for Dispatch {}
// SAFETY: as above.
unsafe impl Sync for Algorithm {}

/// `OSSL_provider_init_fn`.
pub(crate) type ProviderInit = unsafe extern "C" fn(
    handle: *const c_void,
    from_core: *const Dispatch,
    to_core: *mut *const Dispatch,
    provider_context: *mut *mut c_void,
) -> c_int;

/// `OSSL_CALLBACK`.
pub(crate) type ParamsCallback = unsafe extern "C" fn(*const OSSL_PARAM, *mut c_void) -> c_int;

/// The callback of `SSL_CTX_set_cert_cb`.
pub(crate) type CertificateCallback = unsafe extern "C" fn(*mut SSL, *mut c_void) -> c_int;

pub(crate) const OSSL_OP_KEYMGMT: c_int = 10;
pub(crate) const OSSL_OP_SIGNATURE: c_int = 12;
pub(crate) const OSSL_OP_ASYM_CIPHER: c_int = 13;
pub(crate) const OSSL_FUNC_PROVIDER_QUERY_OPERATION: c_int = 1027;

pub(crate) const OSSL_PARAM_INTEGER: u32 = 1;
pub(crate) const OSSL_PARAM_UNSIGNED_INTEGER: u32 = 2;
pub(crate) const OSSL_PARAM_UTF8_STRING: u32 = 4;
pub(crate) const OSSL_PARAM_OCTET_STRING: u32 = 5;

pub(crate) const OPENSSL_INIT_NO_LOAD_CONFIG: u64 = 0x80;

pub(crate) const SSL_CTRL_GET_CHAIN_CERTS: c_int = 115;
pub(crate) const SSL_CTRL_SET_MAX_CERT_LIST: c_int = 51;
pub(crate) const SSL_CTRL_GET_NEGOTIATED_GROUP: c_int = 134;
/// The type of handshake records (RFC 8446, 5.1).
pub(crate) const SSL3_RT_HANDSHAKE: c_int = 22;
pub(crate) const SSL_OP_NO_RENEGOTIATION: u64 = 1 << 30;
pub(crate) const NID_KX_DHE: c_int = 1039;
pub(crate) const NID_KX_DHE_PSK: c_int = 1041;
pub(crate) const SSL_KEY_UPDATE_REQUESTED: c_int = 1;
/// RFC 2253, with non-ASCII characters as UTF-8 in place of escapes.
pub(crate) const XN_FLAG_RFC2253_UTF8: c_ulong = 0x0111_0317 & !4;

/// A record of usage 3 is valid for any names in the certificate.
pub(crate) const DANE_FLAG_NO_DANE_EE_NAMECHECKS: c_ulong = 1;

/// `ERR_LIB_USER`: the first library number that is free for applications.
pub(crate) const ERR_LIB_USER: c_int = 128;

/// `EC_builtin_curve`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BuiltinCurve {
    pub(crate) nid: c_int,
    pub(crate) comment: *const c_char,
}

unsafe extern "C" {
    pub(crate) fn EC_get_builtin_curves(curves: *mut BuiltinCurve, room: usize) -> usize;
    pub(crate) fn OSSL_PROVIDER_add_builtin(
        libctx: *mut OSSL_LIB_CTX,
        name: *const c_char,
        init: ProviderInit,
    ) -> c_int;
    pub(crate) fn EVP_set_default_properties(libctx: *mut OSSL_LIB_CTX, properties: *const c_char) -> c_int;
    pub(crate) fn OSSL_PARAM_set_int(param: *mut OSSL_PARAM, value: c_int) -> c_int;
    pub(crate) fn OSSL_PARAM_set_utf8_string(param: *mut OSSL_PARAM, value: *const c_char) -> c_int;
    pub(crate) fn OSSL_PARAM_get_int(param: *const OSSL_PARAM, value: *mut c_int) -> c_int;
    pub(crate) fn OSSL_PARAM_get_uint(param: *const OSSL_PARAM, value: *mut c_uint) -> c_int;

    pub(crate) fn ERR_set_mark() -> c_int;
    pub(crate) fn ERR_pop_to_mark() -> c_int;

    pub(crate) fn SSL_CTX_set_cert_cb(
        context: *mut SSL_CTX,
        callback: Option<CertificateCallback>,
        argument: *mut c_void,
    );
    pub(crate) fn SSL_CTX_use_cert_and_key(
        context: *mut SSL_CTX,
        leaf: *mut X509,
        key: *mut EVP_PKEY,
        chain: *mut stack_st_X509,
        replace: c_int,
    ) -> c_int;
    pub(crate) fn SSL_use_cert_and_key(
        ssl: *mut SSL,
        leaf: *mut X509,
        key: *mut EVP_PKEY,
        chain: *mut stack_st_X509,
        replace: c_int,
    ) -> c_int;
    pub(crate) fn SSL_CTX_dane_enable(context: *mut SSL_CTX) -> c_int;
    pub(crate) fn SSL_CTX_dane_set_flags(context: *mut SSL_CTX, flags: c_ulong) -> c_ulong;
    pub(crate) fn SSL_dane_enable(ssl: *mut SSL, host: *const c_char) -> c_int;
    pub(crate) fn SSL_dane_tlsa_add(
        ssl: *mut SSL,
        usage: u8,
        selector: u8,
        matching: u8,
        data: *const c_uchar,
        length: usize,
    ) -> c_int;
    pub(crate) fn SSL_CTX_set_msg_callback(context: *mut SSL_CTX, callback: Option<MessageCallback>);
    pub(crate) fn SSL_get_pending_cipher(ssl: *const SSL) -> *const SSL_CIPHER;
    pub(crate) fn SSL_CIPHER_get_kx_nid(cipher: *const SSL_CIPHER) -> c_int;
    pub(crate) fn SSL_set_options(ssl: *mut SSL, options: u64) -> u64;
    pub(crate) fn SSL_clear_options(ssl: *mut SSL, options: u64) -> u64;
    pub(crate) fn SSL_certs_clear(ssl: *mut SSL);
    pub(crate) fn SSL_group_to_name(ssl: *mut SSL, group: c_int) -> *const c_char;
    pub(crate) fn SSL_key_update(ssl: *mut SSL, kind: c_int) -> c_int;
    pub(crate) fn SSL_renegotiate(ssl: *mut SSL) -> c_int;
    pub(crate) fn SSL_set_read_ahead(ssl: *mut SSL, yes: c_int);
    pub(crate) fn SSL_renegotiate_pending(ssl: *const SSL) -> c_int;
    pub(crate) fn SSL_verify_client_post_handshake(ssl: *mut SSL) -> c_int;

    pub(crate) fn X509_check_ca(certificate: *mut X509) -> c_int;
    pub(crate) fn X509_STORE_up_ref(store: *mut X509_STORE) -> c_int;
    pub(crate) fn X509_STORE_add_crl(store: *mut X509_STORE, list: *mut X509_CRL) -> c_int;
    pub(crate) fn X509_NAME_print_ex(
        out: *mut BIO,
        name: *const X509_NAME,
        indent: c_int,
        flags: c_ulong,
    ) -> c_int;
    pub(crate) fn PEM_read_bio_Parameters(from: *mut BIO, key: *mut *mut EVP_PKEY) -> *mut EVP_PKEY;
}

/// Returns `Ok` for OpenSSL's 1, and the error queue for every other result.
pub(crate) fn check(result: c_int) -> Result<(), ErrorStack> {
    if result == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}
