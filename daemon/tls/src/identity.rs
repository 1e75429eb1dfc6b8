//! The public half of an identity, which is all that the front has. The private half stays in the keeper.

use luassl_keeper_ipc::front::PRE_MASTER;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The SHA-256 of a public key (DER SubjectPublicKeyInfo). With the name, it distinguishes generations of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 32]);

/// The public half of one generation of an identity, as the keeper sends it.
#[derive(Debug, PartialEq, Eq)]
pub struct PublicIdentity {
    /// The name of the identity in the configuration.
    pub name: String,
    /// The number of the generation. It increases with each renewal, from 1, during the life of the keeper.
    pub generation: u64,
    /// The id of the key.
    pub key_id: KeyId,
    /// DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// DER certificates, leaf first. Empty for a bare key.
    pub chain: Vec<Vec<u8>>,
    /// The OCSP response (DER), if the configuration names one.
    pub staple: Option<Vec<u8>>,
}

/// A source of the public halves of identities: the link to the keeper, or a test source.
pub trait IdentitySource: Send + Sync + 'static {
    /// Returns the generation of the identity `name` (as declared) that is in service, if there is one.
    fn current(&self, name: &str) -> Option<Arc<PublicIdentity>>;

    /// Returns a counter of every change of any identity.
    fn epoch(&self) -> u64;
}

/// A pre-master secret of RSA key exchange. It is wiped when it is dropped.
pub struct PreMaster(pub Zeroizing<[u8; PRE_MASTER]>);

/// The reason why a signature or a pre-master secret is not available.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The keeper has ended and did not come back within the deadline.
    #[error("the keeper cannot be reached")]
    Unavailable,
    /// The keeper refused: the message is not a handshake message, or the use is not granted to this front.
    #[error("the keeper refused: {0}")]
    Refused(String),
}

/// A signer for identities: the link to the keeper, or a test signer.
pub trait Signer: Send + Sync + 'static {
    /// Signs `message` (whole, not a digest) with the key `key_id` of identity `name`. `scheme` is a TLS
    /// SignatureScheme (RFC 8446, 4.2.3). Blocks up to the keeper's deadline, so only handshake threads may call it.
    ///
    /// # Errors
    /// [`SignError`] if the keeper has ended or refuses.
    fn sign(&self, name: &str, key_id: KeyId, scheme: u16, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// Returns the secret of a ClientKeyExchange (RFC 5246, 7.4.7.1) whose ClientHello offered `version`. The result is
    /// random if the ciphertext is not good. Blocks like [`Signer::sign`].
    ///
    /// # Errors
    /// [`SignError`] if the keeper has ended or refuses.
    fn decrypt(
        &self,
        name: &str,
        key_id: KeyId,
        version: u16,
        ciphertext: &[u8],
    ) -> Result<PreMaster, SignError>;
}

/// A shared handle to a signer.
pub type SharedSigner = Arc<dyn Signer>;
