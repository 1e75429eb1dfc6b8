//! Parses and orders certificates that the keeper has sent without parsing them: the one that carries the identity's
//! key first, then the issuer of each. The supervisor does this before a push takes effect, and a front when it
//! receives an identity.

use crate::without_error_queue;
use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::x509::{X509, X509Ref, X509VerifyResult};

/// An ordered chain.
#[derive(Debug)]
pub struct Chain {
    /// The key's own certificate first. Empty for a bare key.
    pub certificates: Vec<X509>,
    /// Whether the given certificates were in this order.
    pub in_order: bool,
    /// The number of other certificates.
    pub left: usize,
}

/// The reason why certificates are not a chain for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A certificate cannot be parsed.
    #[error("a certificate in the file cannot be read: {0}")]
    Unreadable(String),
    /// No certificate carries the key.
    #[error("no certificate in the file belongs to the private key")]
    NotOfKey,
}

impl Chain {
    /// Returns the chain, from these certificates (DER), for the public key whose SHA-256 (of the DER
    /// SubjectPublicKeyInfo) is `key_id`. Without certificates, it is the chain of a bare key.
    ///
    /// # Errors
    /// [`ChainFault`].
    pub fn of(given: &[&[u8]], key_id: &[u8; 32]) -> Result<Self, ChainFault> {
        if given.is_empty() {
            return Ok(Self { certificates: Vec::new(), in_order: true, left: 0 });
        }
        without_error_queue(|| ordered(parsed(given)?, key_id))
    }

    /// Returns the certificates as DER.
    ///
    /// # Errors
    /// [`ChainFault::Unreadable`] if OpenSSL has no memory.
    pub fn to_der(&self) -> Result<Vec<Vec<u8>>, ChainFault> {
        let ders = self.certificates.iter().map(|certificate| certificate.to_der());
        ders.collect::<Result<_, _>>().map_err(|error| ChainFault::Unreadable(reason(&error)))
    }
}

/// Returns the reason of the newest error.
pub fn reason(error: &ErrorStack) -> String {
    let newest = error.errors().last().and_then(|error| error.reason());
    newest.unwrap_or("OpenSSL gives no reason").to_owned()
}

/// Returns whether one certificate issued the other, by names, key identifiers and key usage.
pub fn issued(issuer: &X509Ref, other: &X509Ref) -> bool {
    issuer.issued(other) == X509VerifyResult::OK
}

fn parsed(given: &[&[u8]]) -> Result<Vec<X509>, ChainFault> {
    let parsed = given.iter().map(|der| X509::from_der(der)).collect::<Result<_, _>>();
    parsed.map_err(|error| ChainFault::Unreadable(reason(&error)))
}

fn ordered(mut given: Vec<X509>, key_id: &[u8; 32]) -> Result<Chain, ChainFault> {
    let place = given.iter().position(|one| carries(one, key_id)).ok_or(ChainFault::NotOfKey)?;
    let mut in_order = place == 0;
    let mut certificates = vec![given.remove(place)];
    while let Some(place) = issuer(&certificates, &given) {
        in_order &= place == 0;
        certificates.push(given.remove(place));
    }
    Ok(Chain { certificates, in_order, left: given.len() })
}

fn carries(certificate: &X509Ref, key_id: &[u8; 32]) -> bool {
    let key = certificate.public_key().and_then(|key| key.public_key_to_der());
    key.is_ok_and(|der| sha256(&der) == *key_id)
}

/// Returns the index of the issuer of the last certificate. A self-issued certificate ends the chain.
fn issuer(chain: &[X509], given: &[X509]) -> Option<usize> {
    let last = chain.last().filter(|last| !issued(last, last))?;
    given.iter().position(|certificate| issued(certificate, last))
}
