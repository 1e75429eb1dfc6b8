//! The OpenSSL provider `luassl`: keys that consist of a public half and the keeper's name for them.
//!
//! A key is made by [`private_key`] and behaves as a private key towards libssl; its signatures are made by the
//! [`SharedSigner`] that [`install`] was given. Private halves can neither be imported nor exported.

mod decryption;
mod key;
mod keymgmt;
mod params;
mod scheme;
mod signature;

pub(crate) use key::private_key;

use super::TlsError;
use super::ffi::{self, Algorithm, Dispatch};
use crate::identity::{SharedSigner, SignError, Signer};
use openssl::error::ErrorStack;
use std::ffi::{CStr, CString, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::OnceLock;

static SIGNER: OnceLock<SharedSigner> = OnceLock::new();

/// In the error queue, with `ERR_LIB_USER`: the keeper cannot be reached.
pub(crate) const REASON_UNAVAILABLE: c_int = 1;
/// In the error queue, with `ERR_LIB_USER`: the keeper refused; its reason is the error's data.
pub(crate) const REASON_REFUSED: c_int = 2;

const NAME: &CStr = c"luassl";
const PROPERTIES: &CStr = c"provider=luassl";

/// Has the provider's keys sign by `signer`.
pub(super) fn install(signer: SharedSigner) -> Result<(), TlsError> {
    SIGNER.set(signer).map_err(|_| TlsError::Installed)?;
    Ok(prepare()?)
}

/// Registers and loads the provider in the default library context, once.
pub(super) fn prepare() -> Result<(), ErrorStack> {
    static PREPARED: OnceLock<Result<(), ErrorStack>> = OnceLock::new();
    PREPARED.get_or_init(|| initialise().and_then(|()| load())).clone()
}

/// Starts OpenSSL without openssl.cnf, and so without OPENSSL_CONF. What comes later does not read it either.
pub(super) fn initialise() -> Result<(), ErrorStack> {
    const OPTIONS: u64 = ffi::OPENSSL_INIT_NO_LOAD_CONFIG | openssl_sys::OPENSSL_INIT_NO_ATEXIT;
    // SAFETY: no preconditions; the settings may be null.
    check(unsafe { openssl_sys::OPENSSL_init_ssl(OPTIONS, ptr::null()) })?;
    openssl::init();
    Ok(())
}

fn load() -> Result<(), ErrorStack> {
    // SAFETY: null is the default library context, the name is a C string, and `init` is a provider's entry point.
    check(unsafe { ffi::OSSL_PROVIDER_add_builtin(ptr::null_mut(), NAME.as_ptr(), init) })?;
    for name in [c"default", NAME] {
        // SAFETY: as above. The provider stays loaded for the life of the process, so its handle is not kept.
        let provider = unsafe { openssl_sys::OSSL_PROVIDER_load(ptr::null_mut(), name.as_ptr()) };
        check(c_int::from(!provider.is_null()))?;
    }
    // SAFETY: null is the default library context, the properties are a C string.
    // What a program fetches by an algorithm's name is OpenSSL's own; ours is found through its keys.
    check(unsafe { ffi::EVP_set_default_properties(ptr::null_mut(), c"?provider=default".as_ptr()) })
}

/// Turns OpenSSL's 1 into success, everything else into the error queue.
fn check(result: c_int) -> Result<(), ErrorStack> {
    if result == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

unsafe extern "C" fn init(
    handle: *const c_void,
    _from_core: *const Dispatch,
    to_core: *mut *const Dispatch,
    provider_context: *mut *mut c_void,
) -> c_int {
    static FUNCTIONS: [Dispatch; 2] = [
        Dispatch {
            function_id: ffi::OSSL_FUNC_PROVIDER_QUERY_OPERATION,
            function: Some(
                // SAFETY: libcrypto casts it back to the type that the function's number stands for.
                unsafe {
                    std::mem::transmute::<
                        unsafe extern "C" fn(*mut c_void, c_int, *mut c_int) -> *const Algorithm,
                        unsafe extern "C" fn(),
                    >(query_operation)
                },
            ),
        },
        Dispatch::END,
    ];
    // SAFETY: libcrypto passes two pointers to be filled in.
    unsafe {
        *to_core = FUNCTIONS.as_ptr();
        *provider_context = handle.cast_mut();
    }
    1
}

unsafe extern "C" fn query_operation(
    _provider_context: *mut c_void,
    operation: c_int,
    no_cache: *mut c_int,
) -> *const Algorithm {
    // SAFETY: libcrypto passes a pointer to be filled in.
    unsafe { *no_cache = 0 };
    match operation {
        ffi::OSSL_OP_KEYMGMT => keymgmt::ALGORITHMS.as_ptr(),
        ffi::OSSL_OP_SIGNATURE => signature::ALGORITHMS.as_ptr(),
        ffi::OSSL_OP_ASYM_CIPHER => decryption::ALGORITHMS.as_ptr(),
        _ => ptr::null(),
    }
}

/// Asks the signer; where it fails, says so on OpenSSL's queue.
fn ask<T>(request: impl FnOnce(&dyn Signer) -> Result<T, SignError>) -> Option<T> {
    let signer = SIGNER.get()?;
    // A panic must not cross into libcrypto.
    match catch_unwind(AssertUnwindSafe(|| request(&**signer))) {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(SignError::Unavailable)) => raise(REASON_UNAVAILABLE, ""),
        Ok(Err(SignError::Refused(reason))) => raise(REASON_REFUSED, &reason),
        Err(_) => raise(REASON_REFUSED, "the signer failed"),
    }
    None
}

/// Puts an error of our own on OpenSSL's queue, where `tls::failure` finds it.
fn raise(reason: c_int, data: &str) {
    let data = CString::new(data).unwrap_or_default();
    // SAFETY: the format takes one C string, which outlives the call; libcrypto copies it.
    unsafe {
        openssl_sys::ERR_new();
        openssl_sys::ERR_set_error(ffi::ERR_LIB_USER, reason, c"%s".as_ptr(), data.as_ptr());
    }
}

const fn algorithm(names: &'static CStr, functions: &'static [Dispatch]) -> Algorithm {
    Algorithm {
        names: names.as_ptr(),
        properties: PROPERTIES.as_ptr(),
        functions: functions.as_ptr(),
        description: ptr::null(),
    }
}
