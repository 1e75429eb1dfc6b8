//! Certificates: public, so they may leave libcrypto's memory.

use super::{CryptoError, Owned, PrivateKey, SecretFile, to_der};
use openssl_sys as ffi;
use std::ffi::{c_char, c_int, c_void};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr;

unsafe extern "C" {
    fn X509_get0_pubkey(certificate: *const ffi::X509) -> *mut ffi::EVP_PKEY;
    fn X509_get_ext_by_NID(certificate: *const ffi::X509, nid: c_int, last: c_int) -> c_int;
    fn GENERAL_NAMES_free(names: *mut ffi::stack_st_GENERAL_NAME);
}

/// Certificates that one file may have.
const CERTIFICATES_MAX: usize = 64;

/// A certificate.
pub(crate) struct Certificate(Owned<ffi::X509>);

impl Certificate {
    /// Reads every certificate of a PEM file, which may have other blocks as well.
    ///
    /// # Errors
    /// [`CryptoError`] for one that cannot be read, and for more than [`CERTIFICATES_MAX`].
    pub(crate) fn read_all(file: &SecretFile) -> Result<Vec<Self>, CryptoError> {
        let bio = file.bio()?;
        let mut all = Vec::new();
        while let Some(certificate) = Self::read_next(&bio)? {
            if all.len() == CERTIFICATES_MAX {
                return Err(CryptoError(format!("more than {CERTIFICATES_MAX} certificates")));
            }
            all.push(certificate);
        }
        Ok(all)
    }

    fn read_next(bio: &Owned<ffi::BIO>) -> Result<Option<Self>, CryptoError> {
        // SAFETY: the BIO is live, and encrypted blocks get no passphrase.
        let certificate = unsafe {
            ffi::PEM_read_bio_X509(bio.as_ptr(), ptr::null_mut(), Some(no_passphrase), ptr::null_mut())
        };
        if certificate.is_null() && is_end_of_pem() {
            return Ok(None);
        }
        // SAFETY: it was made for us.
        unsafe { Owned::new(certificate, ffi::X509_free) }.map(|certificate| Some(Self(certificate)))
    }

    fn as_ptr(&self) -> *mut ffi::X509 {
        self.0.as_ptr()
    }

    /// The certificate as DER.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub(crate) fn der(&self) -> Result<Vec<u8>, CryptoError> {
        // SAFETY: the certificate is live, and `to_der` gives room for what was asked for.
        to_der(|out| unsafe { ffi::i2d_X509(self.as_ptr(), out) })
    }

    /// Whether it is for this key.
    pub(crate) fn is_for(&self, key: &PrivateKey) -> bool {
        // SAFETY: both are live; the certificate's key is a part of it, or null when it cannot be read.
        unsafe {
            let public = X509_get0_pubkey(self.as_ptr());
            let same = !public.is_null() && ffi::EVP_PKEY_eq(public, key.as_ptr()) == 1;
            ffi::ERR_clear_error();
            same
        }
    }

    /// Whether it issued `other`, by names, key identifiers and key usage.
    pub(crate) fn issued(&self, other: &Self) -> bool {
        // SAFETY: both are live.
        unsafe { ffi::X509_check_issued(self.as_ptr(), other.as_ptr()) == ffi::X509_V_OK }
    }

    /// Whether it says where its issuer's certificate is to be had, as those of public authorities do.
    pub(crate) fn names_its_issuers_place(&self) -> bool {
        // SAFETY: the certificate is live.
        unsafe { X509_get_ext_by_NID(self.as_ptr(), ffi::NID_info_access, -1) >= 0 }
    }

    /// Start and end of its validity, in seconds since 1970.
    ///
    /// # Errors
    /// [`CryptoError`] for dates that are none.
    pub(crate) fn validity(&self) -> Result<(i64, i64), CryptoError> {
        // SAFETY: the certificate is live, and the dates are parts of it.
        unsafe {
            let before = ffi::X509_getm_notBefore(self.as_ptr());
            let after = ffi::X509_getm_notAfter(self.as_ptr());
            Ok((seconds(before)?, seconds(after)?))
        }
    }

    /// The host names and IP addresses among its subject alternative names.
    pub(crate) fn names(&self) -> Vec<String> {
        // SAFETY: the certificate is live; what comes back is a new GENERAL_NAMES, or null where there is none.
        let names = unsafe {
            let names = ffi::X509_get_ext_d2i(
                self.as_ptr(),
                ffi::NID_subject_alt_name,
                ptr::null_mut(),
                ptr::null_mut(),
            );
            Owned::new(names.cast::<ffi::stack_st_GENERAL_NAME>(), GENERAL_NAMES_free)
        };
        let Ok(names) = names else { return Vec::new() };
        let stack = names.as_ptr().cast::<ffi::OPENSSL_STACK>();
        // SAFETY: the stack is live, holds GENERAL_NAMEs, and is asked for places that it has.
        unsafe {
            let each = (0..ffi::OPENSSL_sk_num(stack)).map(|place| ffi::OPENSSL_sk_value(stack, place));
            each.filter_map(|name| text(name.cast::<ffi::GENERAL_NAME>())).collect()
        }
    }
}

/// Without this callback libcrypto asks at the terminal.
unsafe extern "C" fn no_passphrase(_: *mut c_char, _: c_int, _: c_int, _: *mut c_void) -> c_int {
    -1
}

/// Whether the newest error says that no PEM block is left; forgets it then.
fn is_end_of_pem() -> bool {
    // SAFETY: works on the thread's own queue.
    unsafe {
        let error = ffi::ERR_peek_last_error();
        let end = ffi::ERR_GET_LIB(error) == ffi::ERR_LIB_PEM
            && ffi::ERR_GET_REASON(error) == ffi::PEM_R_NO_START_LINE;
        if end {
            ffi::ERR_clear_error();
        }
        end
    }
}

/// Seconds from 1970 to a date.
///
/// # Safety
/// `date` is live.
unsafe fn seconds(date: *const ffi::ASN1_TIME) -> Result<i64, CryptoError> {
    let (mut days, mut rest) = (0, 0);
    // SAFETY: a new date of our own, and two places for the answer.
    let done = unsafe {
        let epoch = Owned::new(ffi::ASN1_TIME_set(ptr::null_mut(), 0), ffi::ASN1_TIME_free)?;
        ffi::ASN1_TIME_diff(&raw mut days, &raw mut rest, epoch.as_ptr(), date)
    };
    if done == 1 { Ok(i64::from(days) * 86_400 + i64::from(rest)) } else { Err(CryptoError::last()) }
}

/// A host name or an IP address for people; nothing for other sorts of names.
///
/// # Safety
/// `name` is live.
unsafe fn text(name: *const ffi::GENERAL_NAME) -> Option<String> {
    // SAFETY: for both sorts that are looked at, `d` is an ASN1_STRING (RFC 5280, 4.2.1.6).
    let (sort, bytes) = unsafe {
        let sort = (*name).type_;
        if !matches!(sort, ffi::GEN_DNS | ffi::GEN_IPADD) {
            return None;
        }
        let string = (*name).d.cast::<ffi::ASN1_STRING>();
        // An empty string may have no bytes to point at.
        let length = usize::try_from(ffi::ASN1_STRING_length(string)).ok().filter(|length| *length > 0)?;
        (sort, std::slice::from_raw_parts(ffi::ASN1_STRING_get0_data(string), length))
    };
    if sort == ffi::GEN_DNS {
        return str::from_utf8(bytes).ok().map(|name| name.escape_debug().to_string());
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|address| Ipv4Addr::from(address).to_string()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|address| Ipv6Addr::from(address).to_string()),
    }
}
