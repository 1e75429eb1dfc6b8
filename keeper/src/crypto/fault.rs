//! Why a file gave no private key.

use super::object::CryptoError;

/// Why a file gave no private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyFault {
    /// Nothing in the file looks like one.
    #[error("the file contains no private key in PEM{0}")]
    Missing(&'static str),
    /// There is one, and it cannot be read.
    #[error("the private key cannot be read: {0}")]
    Unreadable(CryptoError),
    /// It is encrypted, and nobody gave the passphrase.
    #[error("the private key needs a passphrase: set password_file to the file that contains it")]
    NeedsPassphrase,
    /// It is encrypted, and what was given does not open it.
    #[error("the passphrase does not decrypt the private key")]
    WrongPassphrase,
    /// Not a kind or size that is taken.
    #[error(
        "{0}: use an RSA key of 2048 to 4096 bits, or one of P-256, P-384, P-521, Ed25519 or \
             Ed448"
    )]
    Unsupported(String),
    /// Signatures of the private half do not verify with the public half.
    #[error("the private key is damaged: its public key does not verify its signatures")]
    Damaged,
}
