//! The decision on one request for a signature or for a pre-master secret. It is a function of the service, the front
//! and the request.

use crate::crypto::{CryptoError, is_on_curve};
use crate::identities::identity::Public;
use crate::identities::registry::{NoKey, Service};
use crate::policy::handshake_message::{HandshakeMessage, NotAHandshakeMessage, is_own_leaf};
use crate::policy::scheme::{KeyKind, Scheme};
use luassl_keeper_ipc::admin::Rights;
use luassl_keeper_ipc::front::{Decrypt, PRE_MASTER, Refusal, Sign};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The reason why a request was denied, for the log. The front gets the [`Refusal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// The identity is unknown, or it belongs to another front. The answer is the same in both cases.
    #[error("no such identity for this front")]
    Identity,
    /// No generation in service has that key.
    #[error("the identity does not have this key, or no longer has it")]
    Generation,
    /// The message is not one that a TLS peer signs.
    #[error("not a handshake message: {0}")]
    Message(#[from] NotAHandshakeMessage),
    /// The message has a role or a protocol version that this front may not use for this identity.
    #[error("a message of a {0}, which no grant allows for this front")]
    Role(&'static str),
    /// The point is not on its curve. No TLS peer sends such a point.
    #[error("an ECDHE point that is not on its curve")]
    Point,
    /// The client's transcript has a certificate that is not the identity's.
    #[error("a transcript without the identity's own certificate")]
    ForeignLeaf,
    /// The scheme is unknown, or it does not fit this key or this version of TLS.
    #[error("signature scheme {0:#06x} does not fit")]
    Scheme(u16),
    /// RSA key exchange is not allowed for this front, or the key is not RSA.
    #[error("RSA key exchange is not allowed for this front, or not possible with this key")]
    KeyExchange,
    /// The length of the ciphertext is not that of the key's modulus.
    #[error("a ciphertext of {0} bytes, which is not the length of the modulus")]
    Ciphertext(usize),
    /// The front exceeded its rate.
    #[error("more requests per second than [limits] signatures_per_identity or signatures_per_front")]
    Rate,
    /// libcrypto failed.
    #[error("libcrypto: {0}")]
    Crypto(#[from] CryptoError),
}

impl Denied {
    /// Returns the refusal that the front gets.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Identity => Refusal::UnknownIdentity,
            Self::Generation => Refusal::UnknownKey,
            Self::Message(_) | Self::Point | Self::ForeignLeaf | Self::Ciphertext(_) => Refusal::NotHandshake,
            Self::KeyExchange => Refusal::KeyExchange,
            Self::Role(_) => Refusal::Role,
            Self::Scheme(_) => Refusal::Scheme,
            Self::Rate => Refusal::Rate,
            Self::Crypto(_) => Refusal::Failed,
        }
    }
}

impl From<NoKey> for Denied {
    fn from(none: NoKey) -> Self {
        match none {
            NoKey::Identity => Self::Identity,
            NoKey::Generation => Self::Generation,
        }
    }
}

/// The result, with its details for the audit log.
pub(crate) struct Done<T> {
    pub(crate) answer: T,
    /// The kind of message that was signed or decrypted, as named in the audit log.
    pub(crate) message: &'static str,
    /// Whether each use is logged.
    pub(crate) audit: bool,
}

/// Checks a request and signs.
///
/// # Errors
/// [`Denied`].
pub(crate) fn sign(service: &Service, front: &str, request: &Sign<'_>) -> Result<Done<Vec<u8>>, Denied> {
    let (rights, holder) = service.holder(front, request.name, &request.key_id)?;
    let message = HandshakeMessage::of(request.message)?;
    check_rights(message, rights)?;
    check_leaf(message, &holder.publics)?;
    check_point(message)?;
    let tls13 = matches!(message, HandshakeMessage::Server13 | HandshakeMessage::Client13);
    let scheme = Scheme::from_code(request.scheme).filter(|scheme| scheme.fits(holder.key.kind(), tls13));
    let scheme = scheme.ok_or(Denied::Scheme(request.scheme))?;
    let answer = holder.key.sign(scheme, request.message)?;
    Ok(Done { answer, message: message.as_str(), audit: rights.audit })
}

/// Checks a request and decrypts.
///
/// # Errors
/// [`Denied`]; never because of the content of the ciphertext.
pub(crate) fn decrypt(
    service: &Service,
    front: &str,
    request: &Decrypt<'_>,
) -> Result<Done<Zeroizing<[u8; PRE_MASTER]>>, Denied> {
    let (rights, holder) = service.holder(front, request.name, &request.key_id)?;
    if !(rights.rsa_key_exchange && matches!(holder.key.kind(), KeyKind::Rsa(_))) {
        return Err(Denied::KeyExchange);
    }
    if request.ciphertext.len() != holder.key.modulus_len() {
        return Err(Denied::Ciphertext(request.ciphertext.len()));
    }
    let mut answer = Zeroizing::new([0; PRE_MASTER]);
    holder.key.pre_master(request.version, request.ciphertext, &mut answer)?;
    Ok(Done { answer, message: "tls12-pre-master", audit: rights.audit })
}

fn check_rights(message: HandshakeMessage<'_>, rights: Rights) -> Result<(), Denied> {
    let (allowed, what) = match message {
        HandshakeMessage::Server13 => (rights.tls13_server, "TLS 1.3 server"),
        HandshakeMessage::Client13 => (rights.tls13_client, "TLS 1.3 client"),
        HandshakeMessage::Ecdhe12 { .. } => (rights.tls12_server, "TLS 1.2 server"),
        HandshakeMessage::Dhe12 => (rights.tls12_server && rights.dhe, "TLS 1.2 server with DHE"),
        HandshakeMessage::Client12 { .. } => (rights.tls12_client, "TLS 1.2 client"),
    };
    if allowed { Ok(()) } else { Err(Denied::Role(what)) }
}

/// Checks whether the point is on its curve. Half of all integers are not a coordinate of a point, and messages of
/// other protocols do not end with a point.
fn check_point(message: HandshakeMessage<'_>) -> Result<(), Denied> {
    match message {
        HandshakeMessage::Ecdhe12 { curve, point } if !is_on_curve(curve, point)? => Err(Denied::Point),
        _ => Ok(()),
    }
}

fn check_leaf(message: HandshakeMessage<'_>, publics: &[Arc<Public>]) -> Result<(), Denied> {
    let HandshakeMessage::Client12 { leaf } = message else { return Ok(()) };
    let own =
        |public: &Arc<Public>| is_own_leaf(leaf, public.chain.first().map(Vec::as_slice), &public.public_key);
    if publics.iter().any(own) { Ok(()) } else { Err(Denied::ForeignLeaf) }
}
