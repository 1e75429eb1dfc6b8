//! Certificates that the keeper handed out unread, parsed and put in order: the one that carries the identity's key first,
//! then each one's issuer. The supervisor does this before a push takes effect, and a front when it takes an identity in.

use crate::without_error_queue;
use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::x509::{X509, X509Ref, X509VerifyResult};

/// A chain in order.
#[derive(Debug)]
pub struct Chain {
    /// The key's own certificate first; none for a bare key.
    pub certificates: Vec<X509>,
    /// Whether they were given in this order.
    pub in_order: bool,
    /// How many others were given.
    pub left: usize,
}

/// Why certificates are no chain of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// One cannot be parsed.
    #[error("a certificate in the file cannot be read: {0}")]
    Unreadable(String),
    /// None of them carries the key.
    #[error("no certificate in the file belongs to the private key")]
    NotOfKey,
}

impl Chain {
    /// Of these certificates (DER), the chain of the public key whose SHA-256 (of the DER SubjectPublicKeyInfo) is
    /// `key_id`. No certificates at all are the chain of a bare key.
    ///
    /// # Errors
    /// [`ChainFault`].
    pub fn of(given: &[&[u8]], key_id: &[u8; 32]) -> Result<Self, ChainFault> {
        if given.is_empty() {
            return Ok(Self { certificates: Vec::new(), in_order: true, left: 0 });
        }
        without_error_queue(|| ordered(parsed(given)?, key_id))
    }

    /// The certificates as DER.
    ///
    /// # Errors
    /// [`ChainFault::Unreadable`] where OpenSSL has no memory.
    pub fn to_der(&self) -> Result<Vec<Vec<u8>>, ChainFault> {
        let ders = self.certificates.iter().map(|certificate| certificate.to_der());
        ders.collect::<Result<_, _>>().map_err(|error| ChainFault::Unreadable(reason(&error)))
    }
}

/// The newest error's reason.
pub fn reason(error: &ErrorStack) -> String {
    let newest = error.errors().last().and_then(|error| error.reason());
    newest.unwrap_or("OpenSSL gives no reason").to_owned()
}

/// Whether one certificate issued the other, by names, key identifiers and key usage.
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

/// Where the issuer of the last certificate is; a certificate that issued itself ends the chain.
fn issuer(chain: &[X509], given: &[X509]) -> Option<usize> {
    let last = chain.last().filter(|last| !issued(last, last))?;
    given.iter().position(|certificate| issued(certificate, last))
}
