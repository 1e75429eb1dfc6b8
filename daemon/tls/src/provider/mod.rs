//! The OpenSSL provider `luassl`: keys that consist of a public half and the keeper's name for them.
//!
//! [`private_key`] creates a key. It behaves as a private key towards libssl, and the [`SharedSigner`] passed to
//! [`install`] makes its signatures. Private halves can neither be imported nor exported.

mod algorithm;
mod decryption;
mod key;
mod keymgmt;
mod params;
mod scheme;
mod signature;
mod signer;

pub(crate) use key::private_key;
pub(crate) use signer::{REASON_REFUSED, REASON_UNAVAILABLE};

use crate::error::TlsError;
use crate::ffi::{self, Algorithm, Dispatch, check};
use crate::identity::SharedSigner;
use openssl::error::ErrorStack;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

const NAME: &CStr = c"luassl";

/// Sets the signer of the provider's keys.
pub(super) fn install(signer: SharedSigner) -> Result<(), TlsError> {
    signer::set(signer)?;
    Ok(prepare()?)
}

/// Registers and loads the provider in the default library context, once.
pub(super) fn prepare() -> Result<(), ErrorStack> {
    static PREPARED: OnceLock<Result<(), ErrorStack>> = OnceLock::new();
    PREPARED.get_or_init(|| initialise().and_then(|()| load())).clone()
}

/// Starts OpenSSL without openssl.cnf, and therefore without OPENSSL_CONF. Later calls do not read it either.
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
    // A fetch by an algorithm's name finds OpenSSL's own algorithm. This provider's algorithms are found through its
    // keys.
    check(unsafe { ffi::EVP_set_default_properties(ptr::null_mut(), c"?provider=default".as_ptr()) })
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
                // SAFETY: libcrypto casts it back to the type that the number of the function stands for.
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
