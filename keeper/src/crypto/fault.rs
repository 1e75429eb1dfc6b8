//! The reasons why a file provides no private key.

use crate::crypto::object::CryptoError;

/// The reason why no private key could be loaded from a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFault {
    /// The file contains no private key.
    #[error("the file contains no private key in PEM{0}")]
    Missing(&'static str),
    /// The private key cannot be read.
    #[error("the private key cannot be read: {0}")]
    Unreadable(CryptoError),
    /// The key is encrypted, and no passphrase was configured.
    #[error("the private key needs a passphrase: set password_file to the file that contains it")]
    NeedsPassphrase,
    /// The key is encrypted, and the passphrase does not decrypt it.
    #[error("the passphrase does not decrypt the private key")]
    WrongPassphrase,
    /// The kind or the size is not supported.
    #[error(
        "{0}: use an RSA key of 2048 to 4096 bits, or one of P-256, P-384, P-521, Ed25519 or \
             Ed448"
    )]
    Unsupported(String),
    /// Signatures of the private half do not verify with the public half.
    #[error("the private key is damaged: its public key does not verify its signatures")]
    Damaged,
}
