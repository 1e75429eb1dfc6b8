//! Safe wrappers for the functions in [`crate::ffi`], and for some of openssl-sys that the openssl crate does not
//! offer.

use crate::ffi;
use foreign_types_shared::{ForeignType, ForeignTypeRef};
use openssl::asn1::{Asn1ObjectRef, Asn1StringRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Params, Private};
use openssl::ssl::{SslContextBuilder, SslRef};
use openssl::stack::StackRef;
use openssl::x509::store::{X509Store, X509StoreBuilderRef};
use openssl::x509::{GeneralNameRef, X509, X509CrlRef, X509NameRef, X509Ref};
use std::ffi::{CStr, c_int, c_long, c_uint};
use std::net::IpAddr;
use std::ptr;

/// Returns `Ok` for OpenSSL's 1, and the error queue for every other result.
fn check(result: c_int) -> Result<(), ErrorStack> {
    if result == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Runs `work`, and removes the errors that it leaves on OpenSSL's queue. Older errors stay.
pub fn without_error_queue<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: both calls work on the queue of this thread, and have no preconditions.
    unsafe { ffi::ERR_set_mark() };
    let result = work();
    // SAFETY: as above.
    unsafe { ffi::ERR_pop_to_mark() };
    result
}

/// Makes libssl refuse longer Certificate and CertificateRequest messages by their length, before it allocates memory
/// for them.
pub(crate) fn bound_certificates(context: &mut SslContextBuilder, bytes: c_long) {
    // SAFETY: the context is alive; this control takes only a number.
    unsafe {
        openssl_sys::SSL_CTX_ctrl(context.as_ptr(), ffi::SSL_CTRL_SET_MAX_CERT_LIST, bytes, ptr::null_mut())
    };
}

/// Makes a session refuse renegotiation, including its own. Returns `false` if it already does.
pub(crate) fn refuse_renegotiation(ssl: &SslRef) -> bool {
    // SAFETY: the session is alive. The old options come from another call, and no other thread uses the session.
    unsafe {
        let before = ffi::SSL_clear_options(ssl.as_ptr(), 0);
        ffi::SSL_set_options(ssl.as_ptr(), ffi::SSL_OP_NO_RENEGOTIATION);
        before & ffi::SSL_OP_NO_RENEGOTIATION == 0
    }
}

/// Allows a session to renegotiate again.
pub(crate) fn allow_renegotiation(ssl: &SslRef) {
    // SAFETY: the session is alive.
    unsafe { ffi::SSL_clear_options(ssl.as_ptr(), ffi::SSL_OP_NO_RENEGOTIATION) };
}

/// Adds a certificate with its key and the rest of its chain to a context, beside those of other key types.
pub(crate) fn context_use(
    context: &mut SslContextBuilder,
    leaf: &X509Ref,
    key: &PKeyRef<Private>,
    chain: &StackRef<X509>,
) -> Result<(), ErrorStack> {
    let context = context.as_ptr();
    // SAFETY: all are alive; OpenSSL takes its own references to them.
    check(unsafe { ffi::SSL_CTX_use_cert_and_key(context, leaf.as_ptr(), key.as_ptr(), chain.as_ptr(), 1) })
}

/// Removes every certificate from a session, so that none of its context's certificates stays.
pub(crate) fn session_clear_certificates(ssl: &mut SslRef) {
    // SAFETY: the session is alive, and no Rust reference points to its certificates.
    unsafe { ffi::SSL_certs_clear(ssl.as_ptr()) }
}

/// Does the same as [`context_use`], for one session.
pub(crate) fn session_use(
    ssl: &mut SslRef,
    leaf: &X509Ref,
    key: &PKeyRef<Private>,
    chain: &StackRef<X509>,
) -> Result<(), ErrorStack> {
    let ssl = ssl.as_ptr();
    // SAFETY: all are alive; OpenSSL takes its own references to them.
    check(unsafe { ffi::SSL_use_cert_and_key(ssl, leaf.as_ptr(), key.as_ptr(), chain.as_ptr(), 1) })
}

/// Allows servers to ask a client of this context for its certificate after the handshake (RFC 8446, 4.6.2).
pub(crate) fn allow_post_handshake_authentication(context: &mut SslContextBuilder) {
    // SAFETY: the context is alive.
    unsafe { openssl_sys::SSL_CTX_set_post_handshake_auth(context.as_ptr(), 1) }
}

/// Allows sessions of a context to be verified by TLSA records.
pub(crate) fn context_enable_dane(
    context: &mut SslContextBuilder,
    no_ee_namechecks: bool,
) -> Result<(), ErrorStack> {
    let flags = if no_ee_namechecks { ffi::DANE_FLAG_NO_DANE_EE_NAMECHECKS } else { 0 };
    // SAFETY: the context is alive.
    check(unsafe { ffi::SSL_CTX_dane_enable(context.as_ptr()) })?;
    // SAFETY: as above.
    unsafe { ffi::SSL_CTX_dane_set_flags(context.as_ptr(), flags) };
    Ok(())
}

/// Makes a session expect TLSA records of a host.
pub(crate) fn session_enable_dane(ssl: &mut SslRef, host: &CStr) -> Result<(), ErrorStack> {
    // SAFETY: the session is alive, and libssl copies the name.
    check(unsafe { ffi::SSL_dane_enable(ssl.as_ptr(), host.as_ptr()) })
}

/// Adds a TLSA record (usage, selector, matching type). Returns `false` if it cannot be used.
pub(crate) fn add_tlsa(ssl: &mut SslRef, (usage, selector, matching): (u8, u8, u8), data: &[u8]) -> bool {
    // SAFETY: the session is alive, the data has its length, and libssl copies it.
    let added =
        unsafe { ffi::SSL_dane_tlsa_add(ssl.as_ptr(), usage, selector, matching, data.as_ptr(), data.len()) };
    added == 1
}

/// Uses DHE parameters that OpenSSL chooses.
pub(crate) fn choose_dh_parameters(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    // SAFETY: the context is alive.
    let result = unsafe { openssl_sys::SSL_CTX_set_dh_auto(context.as_ptr(), 1) };
    check(c_int::from(result == 1))
}

/// Uses these parameters for DHE.
pub(crate) fn set_dh_parameters(
    context: &mut SslContextBuilder,
    parameters: &PKeyRef<Params>,
) -> Result<(), ErrorStack> {
    // SAFETY: the key is alive; the added reference goes to the context, or is released.
    unsafe {
        check(openssl_sys::EVP_PKEY_up_ref(parameters.as_ptr()))?;
        check(openssl_sys::SSL_CTX_set0_tmp_dh_pkey(context.as_ptr(), parameters.as_ptr()))
            .inspect_err(|_| openssl_sys::EVP_PKEY_free(parameters.as_ptr()))
    }
}

/// Returns the parameters of a named group of RFC 7919.
pub(crate) fn named_dh_parameters(group: &CStr) -> Result<PKey<Params>, ErrorStack> {
    // libcrypto reads such a text up to its zero byte, whatever the size is.
    let param = openssl_sys::OSSL_PARAM {
        key: c"group".as_ptr(),
        data_type: ffi::OSSL_PARAM_UTF8_STRING,
        data: group.as_ptr().cast_mut().cast(),
        data_size: group.count_bytes(),
        return_size: usize::MAX,
    };
    // SAFETY: a C string, null is the default library context.
    let context =
        unsafe { openssl_sys::EVP_PKEY_CTX_new_from_name(ptr::null_mut(), c"DH".as_ptr(), ptr::null()) };
    check(c_int::from(!context.is_null()))?;
    let mut key = ptr::null_mut();
    // SAFETY: the context is alive; the array is terminated, and outlives the calls; `key` is filled in.
    let made = unsafe {
        let mut params = [param, openssl_sys::OSSL_PARAM_construct_end()];
        check(openssl_sys::EVP_PKEY_fromdata_init(context)).and_then(|()| {
            let selection = openssl_sys::OSSL_KEYMGMT_SELECT_ALL_PARAMETERS;
            check(openssl_sys::EVP_PKEY_fromdata(context, &mut key, selection, params.as_mut_ptr()))
        })
    };
    // SAFETY: it is freed once.
    unsafe { openssl_sys::EVP_PKEY_CTX_free(context) };
    made?;
    // SAFETY: EVP_PKEY_fromdata succeeded, so `key` is a key that this code owns.
    Ok(unsafe { PKey::from_ptr(key) })
}

/// Reads parameters from PEM.
pub(crate) fn read_dh_parameters(pem: &[u8]) -> Result<PKey<Params>, ErrorStack> {
    let length = c_int::try_from(pem.len()).unwrap_or(c_int::MAX);
    // SAFETY: the bytes outlive the BIO, which only reads them.
    let from = unsafe { openssl_sys::BIO_new_mem_buf(pem.as_ptr().cast(), length) };
    check(c_int::from(!from.is_null()))?;
    // SAFETY: the BIO is alive; null asks for a new key.
    let key = unsafe { ffi::PEM_read_bio_Parameters(from, ptr::null_mut()) };
    // SAFETY: it is freed once.
    unsafe { openssl_sys::BIO_free_all(from) };
    check(c_int::from(!key.is_null()))?;
    // SAFETY: it is a new key that this code owns.
    Ok(unsafe { PKey::from_ptr(key) })
}

/// Returns the size of the prime of the parameters, in bits.
pub(crate) fn bits(parameters: &PKeyRef<Params>) -> u32 {
    // SAFETY: the key is alive.
    u32::try_from(unsafe { openssl_sys::EVP_PKEY_get_bits(parameters.as_ptr()) }).unwrap_or(0)
}

/// Returns another handle to a store.
pub(crate) fn share_store(store: &X509Store) -> Result<X509Store, ErrorStack> {
    // SAFETY: the store is alive, and the added reference belongs to the new handle.
    unsafe {
        check(ffi::X509_STORE_up_ref(store.as_ptr()))?;
        Ok(X509Store::from_ptr(store.as_ptr()))
    }
}

/// Adds a certificate revocation list to a store.
pub(crate) fn add_revocation_list(
    store: &mut X509StoreBuilderRef,
    list: &X509CrlRef,
) -> Result<(), ErrorStack> {
    // SAFETY: both are alive; the store takes its own reference.
    check(unsafe { ffi::X509_STORE_add_crl(store.as_ptr(), list.as_ptr()) })
}

/// Returns the TLS name of the key exchange group, if there was one.
pub(crate) fn negotiated_group(ssl: &SslRef) -> Option<String> {
    // Without a session, libssl 3.0 reads through a null pointer here.
    ssl.session()?;
    // The name is looked up through a mutable pointer, but nothing is changed.
    // SAFETY: the connection is alive and has a session; this control takes no argument.
    let group = unsafe {
        openssl_sys::SSL_ctrl(ssl.as_ptr(), ffi::SSL_CTRL_GET_NEGOTIATED_GROUP, 0, ptr::null_mut())
    };
    let group = c_int::try_from(group).ok().filter(|&group| group != 0)?;
    // SAFETY: the session is alive; the name is null or lives as long as its context.
    let name = unsafe { ffi::SSL_group_to_name(ssl.as_ptr(), group) };
    if name.is_null() {
        return None;
    }
    // SAFETY: a C string, copied before anything else happens.
    Some(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

// The three functions below change the session behind a shared reference, because streams provide no other reference.
// Their callers have exclusive access to the stream.

/// Prepares a key update in both directions (TLS 1.3).
pub(crate) fn key_update(ssl: &SslRef) -> Result<(), ErrorStack> {
    // SAFETY: the session is alive.
    check(unsafe { ffi::SSL_key_update(ssl.as_ptr(), ffi::SSL_KEY_UPDATE_REQUESTED) })
}

/// Prepares a renegotiation (TLS 1.2).
pub(crate) fn renegotiate(ssl: &SslRef) -> Result<(), ErrorStack> {
    // SAFETY: the session is alive.
    check(unsafe { ffi::SSL_renegotiate(ssl.as_ptr()) })
}

/// Prepares the request for a client's certificate after the handshake (TLS 1.3).
pub(crate) fn request_client_certificate(ssl: &SslRef) -> Result<(), ErrorStack> {
    // SAFETY: the session is alive.
    check(unsafe { ffi::SSL_verify_client_post_handshake(ssl.as_ptr()) })
}

/// Returns whether a renegotiation has been prepared and not finished.
pub(crate) fn renegotiation_is_pending(ssl: &SslRef) -> bool {
    // SAFETY: the session is alive.
    unsafe { ffi::SSL_renegotiate_pending(ssl.as_ptr()) != 0 }
}

/// Allows a session to read as much from its transport as its buffer holds.
pub(crate) fn set_read_ahead(ssl: &mut SslRef) {
    // SAFETY: the session is alive.
    unsafe { ffi::SSL_set_read_ahead(ssl.as_ptr(), 1) }
}

/// Returns whether the peer's close_notify has arrived.
pub(crate) fn has_received_shutdown(ssl: &SslRef) -> bool {
    // SAFETY: the session is alive.
    unsafe { openssl_sys::SSL_get_shutdown(ssl.as_ptr()) & openssl_sys::SSL_RECEIVED_SHUTDOWN != 0 }
}

/// Returns whether a certificate carries a host name, with the given check flags.
pub(crate) fn carries_host(certificate: &X509Ref, host: &str, flags: u32) -> bool {
    // SAFETY: the certificate is alive, the name has its length, and no name is requested in return.
    let result = unsafe {
        openssl_sys::X509_check_host(
            certificate.as_ptr(),
            host.as_ptr().cast(),
            host.len(),
            flags,
            ptr::null_mut(),
        )
    };
    result == 1
}

/// Returns whether a certificate carries an IP address.
pub(crate) fn carries_address(certificate: &X509Ref, address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    // SAFETY: the certificate is alive, and the address has its length.
    unsafe { openssl_sys::X509_check_ip(certificate.as_ptr(), octets.as_ptr(), octets.len(), 0) == 1 }
}

/// Returns whether a certificate may issue others.
pub(crate) fn is_authority(certificate: &X509Ref) -> bool {
    // SAFETY: the certificate is alive; a lock in the certificate guards the values that the call caches in it.
    unsafe { ffi::X509_check_ca(certificate.as_ptr()) != 0 }
}

/// Returns a name as RFC 2253 text.
pub(crate) fn name_text(name: &X509NameRef) -> String {
    // SAFETY: the method is static.
    let out = unsafe { openssl_sys::BIO_new(openssl_sys::BIO_s_mem()) };
    if out.is_null() {
        return String::new();
    }
    let mut data = ptr::null_mut();
    // SAFETY: name and BIO are alive; `data` points into the BIO, and is copied before that is freed, once.
    unsafe {
        ffi::X509_NAME_print_ex(out, name.as_ptr(), 0, ffi::XN_FLAG_RFC2253_UTF8);
        let length = openssl_sys::BIO_get_mem_data(out, &mut data);
        let length = if data.is_null() { 0 } else { usize::try_from(length).unwrap_or(0) };
        let bytes: &[u8] =
            if length == 0 { &[] } else { std::slice::from_raw_parts(data.cast::<u8>(), length) };
        let text = String::from_utf8_lossy(bytes).into_owned();
        openssl_sys::BIO_free_all(out);
        text
    }
}

/// Returns the curves that libcrypto has, by their short names.
pub(crate) fn curves() -> Vec<String> {
    // SAFETY: without a buffer, the call only counts.
    let count = unsafe { ffi::EC_get_builtin_curves(ptr::null_mut(), 0) };
    let mut curves = vec![ffi::BuiltinCurve { nid: 0, comment: ptr::null() }; count];
    // SAFETY: the buffer has room for `count` curves.
    unsafe { ffi::EC_get_builtin_curves(curves.as_mut_ptr(), count) };
    let name = |curve: &ffi::BuiltinCurve| Nid::from_raw(curve.nid).short_name().ok().map(str::to_owned);
    curves.iter().filter_map(name).collect()
}

/// Returns an object identifier in dotted form.
pub(crate) fn oid(object: &Asn1ObjectRef) -> String {
    let mut text = [0; 128];
    let room = c_int::try_from(text.len()).unwrap_or(0);
    const WITHOUT_NAME: c_int = 1;
    // SAFETY: the object is alive; the text has its length, and ends with a zero byte.
    unsafe { openssl_sys::OBJ_obj2txt(text.as_mut_ptr().cast(), room, object.as_ptr(), WITHOUT_NAME) };
    CStr::from_bytes_until_nul(&text).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `OTHERNAME` of x509v3.h.
#[repr(C)]
struct OtherName {
    kind: *mut openssl_sys::ASN1_OBJECT,
    value: *mut openssl_sys::ASN1_TYPE,
}

/// Returns the content of a general name of the kind otherName: its type in dotted form, OpenSSL's name for the type,
/// and its value if that is a text.
pub(crate) fn other_name(name: &GeneralNameRef) -> Option<(String, String, &Asn1StringRef)> {
    const TEXTS: [c_int; 2] = [openssl_sys::V_ASN1_UTF8STRING, openssl_sys::V_ASN1_IA5STRING];
    // SAFETY: the name is alive; it points to an OTHERNAME if its type is that, with the same lifetime. The string of
    // the value is read only if the type of the value is a string type.
    unsafe {
        let general = name.as_ptr();
        if (*general).type_ != openssl_sys::GEN_OTHERNAME || (*general).d.is_null() {
            return None;
        }
        let other = (*general).d.cast::<OtherName>();
        let (kind, value) = ((*other).kind, (*other).value);
        if kind.is_null() || value.is_null() || !TEXTS.contains(&(*value).type_) {
            return None;
        }
        let kind = Asn1ObjectRef::from_ptr(kind);
        Some((oid(kind), kind.to_string(), Asn1StringRef::from_ptr((*value).value.asn1_string)))
    }
}

/// Returns the chain that a session sends with its certificate.
pub(crate) fn own_chain(ssl: &SslRef) -> Vec<X509> {
    let mut chain: *mut openssl_sys::stack_st_X509 = ptr::null_mut();
    // SAFETY: the session is alive; the control sets `chain` to a stack that the session still owns.
    unsafe {
        openssl_sys::SSL_ctrl(ssl.as_ptr(), ffi::SSL_CTRL_GET_CHAIN_CERTS, 0, (&raw mut chain).cast());
        if chain.is_null() {
            return Vec::new();
        }
        StackRef::<X509>::from_ptr(chain).iter().map(ToOwned::to_owned).collect()
    }
}

/// Returns an extension of the current ClientHello, by its number.
pub(crate) fn hello_extension(ssl: &mut SslRef, number: c_uint) -> Option<Vec<u8>> {
    let (mut data, mut length) = (ptr::null(), 0);
    // SAFETY: the session is alive and in its ClientHello callback; the returned bytes live as long as the callback
    // runs, and are copied.
    unsafe {
        let found =
            openssl_sys::SSL_client_hello_get0_ext(ssl.as_ptr(), number, &raw mut data, &raw mut length);
        if found != 1 || data.is_null() {
            return None;
        }
        Some(std::slice::from_raw_parts(data, length).to_vec())
    }
}

/// Returns the name of an alert, such as `handshake failure`.
pub(crate) fn alert_name(alert: c_int) -> String {
    // SAFETY: the result is a static C string for any number.
    unsafe { CStr::from_ptr(openssl_sys::SSL_alert_desc_string_long(alert)) }.to_string_lossy().into_owned()
}
