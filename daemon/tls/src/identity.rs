//! What the front knows of an identity: its public half. The private half is the keeper's and never comes here.

use luassl_keeper_ipc::front::PRE_MASTER;
use std::sync::Arc;
use zeroize::Zeroizing;

/// SHA-256 of a public key (DER SubjectPublicKeyInfo); with the name it tells generations of an identity apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 32]);

/// The public half of one generation of an identity, as the keeper sends it.
#[derive(Debug, PartialEq, Eq)]
pub struct PublicIdentity {
    /// The name under which the configuration declares it.
    pub name: String,
    /// Counts up with each renewal, from 1, over the keeper's life.
    pub generation: u64,
    /// Which key.
    pub key_id: KeyId,
    /// DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// DER certificates, leaf first; empty for a bare key.
    pub chain: Vec<Vec<u8>>,
    /// OCSP response (DER), where the configuration names one.
    pub staple: Option<Vec<u8>>,
}

/// Whoever knows the public halves of identities: the link to the keeper, or a test's own.
pub trait IdentitySource: Send + Sync + 'static {
    /// The generation of the identity `name` (as declared) that is in service, where there is one.
    fn current(&self, name: &str) -> Option<Arc<PublicIdentity>>;

    /// Counts every change of any identity.
    fn epoch(&self) -> u64;
}

/// A pre-master secret of RSA key exchange, wiped when it is dropped.
pub struct PreMaster(pub Zeroizing<[u8; PRE_MASTER]>);

/// Why a signature, or a pre-master secret, could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The keeper is gone and did not come back within the deadline.
    #[error("the keeper cannot be reached")]
    Unavailable,
    /// The keeper refused: not a handshake message, or not granted to this front.
    #[error("the keeper refused: {0}")]
    Refused(String),
}

/// Whoever signs for identities: the link to the keeper, or a test's own.
pub trait Signer: Send + Sync + 'static {
    /// Signs `message` (whole, not a digest) with the key `key_id` of identity `name`; `scheme` is a TLS
    /// SignatureScheme (RFC 8446, 4.2.3). Blocks up to the keeper's deadline: handshake threads only.
    ///
    /// # Errors
    /// [`SignError`] when the keeper is gone or refuses.
    fn sign(&self, name: &str, key_id: KeyId, scheme: u16, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// The secret of a ClientKeyExchange (RFC 5246, 7.4.7.1), whose ClientHello offered `version`; random where the
    /// ciphertext is not good. Blocks as [`Signer::sign`].
    ///
    /// # Errors
    /// [`SignError`] when the keeper is gone or refuses.
    fn decrypt(
        &self,
        name: &str,
        key_id: KeyId,
        version: u16,
        ciphertext: &[u8],
    ) -> Result<PreMaster, SignError>;
}

/// A handle to whoever signs.
pub type SharedSigner = Arc<dyn Signer>;
