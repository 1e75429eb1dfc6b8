//! Stores of trusted certificates and CRLs.

use crate::ffi::safe_ffi;
use openssl::error::ErrorStack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{X509, X509Crl};

/// Returns a store with these certificates and CRLs.
pub(crate) fn store_of<'a>(
    certificates: impl IntoIterator<Item = &'a X509>,
    crls: impl IntoIterator<Item = &'a X509Crl>,
) -> Result<X509Store, ErrorStack> {
    let mut builder = X509StoreBuilder::new()?;
    for certificate in certificates {
        builder.add_cert(certificate.clone())?;
    }
    for list in crls {
        safe_ffi::add_revocation_list(&mut builder, list)?;
    }
    Ok(builder.build())
}
