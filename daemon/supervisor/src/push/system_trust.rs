//! The location of the operating system's certificates, which is built into the installed libcrypto. The
//! variables SSL_CERT_FILE and SSL_CERT_DIR are ignored: the environment does not change which certificates
//! the daemon trusts.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Returns the default bundle.
pub(super) fn file() -> PathBuf {
    // SAFETY: the function only returns the address of a constant.
    path(unsafe { openssl_sys::X509_get_default_cert_file() })
}

/// Returns the default directory of certificates.
pub(super) fn directory() -> PathBuf {
    // SAFETY: the function only returns the address of a constant.
    path(unsafe { openssl_sys::X509_get_default_cert_dir() })
}

fn path(constant: *const c_char) -> PathBuf {
    // SAFETY: libcrypto's two constants are terminated strings that live as long as the library.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(constant) }.to_bytes()))
}
