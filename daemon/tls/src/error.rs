//! The reasons why TLS could not be set up.

use openssl::error::ErrorStack;

/// The reason why TLS could not be set up in this process.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// [`install`](crate::install) was called a second time.
    #[error("the provider for keys of the keeper is already installed")]
    Installed,
    /// [`wipe_what_is_freed`](crate::wipe_what_is_freed) was called too late.
    #[error("openssl has taken memory before it was told how")]
    Late,
    /// OpenSSL returned an error.
    #[error("openssl could not be set up: {0}")]
    OpenSsl(#[from] ErrorStack),
}
