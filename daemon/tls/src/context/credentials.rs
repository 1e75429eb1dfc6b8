//! The credentials of a session: a certificate, its chain and the key in the keeper.

use crate::identity::PublicIdentity;
use crate::names::host_names;
use crate::{ffi::safe_ffi, provider, verify::pem};
use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::ocsp::OcspResponse;
use openssl::pkey::{Id, PKey, Private, Public};
use openssl::ssl::{SslContextBuilder, SslRef};
use openssl::stack::Stack;
use openssl::x509::{X509, X509Ref};
use std::sync::Arc;

/// An identity, ready for use.
pub(crate) struct Credentials {
    /// The generation that these credentials were made from.
    pub(crate) identity: Arc<PublicIdentity>,
    /// The host names of the certificate, in lower case, wildcards included.
    pub(crate) host_names: Vec<String>,
    /// The SHA-256 of the leaf.
    pub(crate) leaf_digest: [u8; 32],
    leaf: X509,
    chain: Stack<X509>,
    key: PKey<Private>,
    stapled: bool,
}

impl Credentials {
    /// Returns credentials from an identity's own chain, or from a chain that a client supplied, which must carry the
    /// identity's public key.
    ///
    /// # Errors
    /// `Invalid`, which names the identity, for a chain of another key, and for a bare key without a chain.
    pub(crate) fn new(
        identity: Arc<PublicIdentity>,
        client_supplied: Option<&[X509]>,
    ) -> Result<Self, Failure> {
        let chain = match client_supplied {
            Some(chain) => chain.to_vec(),
            None => own_chain(&identity)?,
        };
        let public = public_key(&identity)?;
        let Some((leaf, rest)) = chain.split_first() else { return Err(bare(&identity)) };
        if !carries(leaf, &public) {
            return Err(foreign_chain(&identity, &chain));
        }
        let key = provider::private_key(&identity).map_err(|error| unusable(&identity, &error))?;
        let leaf_der = leaf.to_der().map_err(|error| unusable(&identity, &error))?;
        let chain = stack(rest).map_err(|error| unusable(&identity, &error))?;
        Ok(Self {
            host_names: host_names(leaf),
            leaf_digest: openssl::sha::sha256(&leaf_der),
            leaf: leaf.clone(),
            chain,
            key,
            stapled: is_stapled(&identity),
            identity,
        })
    }

    /// Returns the algorithm of the key. A session can have one certificate for each algorithm.
    pub(crate) fn algorithm(&self) -> Id {
        self.key.id()
    }

    /// Sets this certificate in a context.
    pub(crate) fn use_in_context(&self, context: &mut SslContextBuilder) -> Result<(), Failure> {
        safe_ffi::context_use(context, &self.leaf, &self.key, &self.chain)
            .map_err(|error| unusable(&self.identity, &error))
    }

    /// Adds this certificate to those of a session.
    pub(crate) fn use_in_session(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        safe_ffi::session_use(ssl, &self.leaf, &self.key, &self.chain)
    }

    /// Returns the OCSP response for `certificate`, if it is this certificate and has a response.
    pub(crate) fn staple_for(&self, certificate: &X509Ref) -> Option<&[u8]> {
        self.identity.staple.as_deref().filter(|_| self.stapled && *certificate == *self.leaf)
    }
}

/// Returns whether an identity has a usable staple. OpenSSL 3.6 fails the handshake for a staple that is not usable.
fn is_stapled(identity: &PublicIdentity) -> bool {
    let Some(staple) = &identity.staple else { return false };
    let readable = OcspResponse::from_der(staple).is_ok();
    if !readable {
        tracing::warn!("identity {:?}: the staple is no OCSP response and is left out", identity.name);
    }
    readable
}

/// Returns whether the first certificate carries the identity's public key.
pub(crate) fn is_chain_of(certificates: &[X509], identity: &PublicIdentity) -> bool {
    let public = public_key(identity);
    public.is_ok_and(|public| certificates.first().is_some_and(|leaf| carries(leaf, &public)))
}

/// Returns whether the first certificate can be a trust anchor: the certificate of an authority, or a self-signed one.
/// Any other leaf is treated as a chain, perhaps a former one, and must not become trusted.
pub(crate) fn is_anchor(certificates: &[X509]) -> bool {
    certificates.first().is_some_and(|first| {
        safe_ffi::without_error_queue(|| safe_ffi::is_authority(first) || is_self_issued(first))
    })
}

fn is_self_issued(certificate: &X509Ref) -> bool {
    certificate.issuer_name().try_cmp(certificate.subject_name()).is_ok_and(std::cmp::Ordering::is_eq)
}

/// Returns the certificates that a client supplied in PEM.
pub(crate) fn client_supplied_certificates(blob: &[u8], what: &str) -> Result<Vec<X509>, Failure> {
    pem::certificates(blob).all(what)
}

fn carries(leaf: &X509Ref, public: &PKey<Public>) -> bool {
    safe_ffi::without_error_queue(|| leaf.public_key().is_ok_and(|key| key.public_eq(public)))
}

fn public_key(identity: &PublicIdentity) -> Result<PKey<Public>, Failure> {
    PKey::public_key_from_der(&identity.public_key).map_err(|error| unusable(identity, &error))
}

fn own_chain(identity: &PublicIdentity) -> Result<Vec<X509>, Failure> {
    let chain = identity.chain.iter().map(|der| X509::from_der(der)).collect::<Result<Vec<_>, _>>();
    chain.map_err(|error| unusable(identity, &error))
}

fn stack(certificates: &[X509]) -> Result<Stack<X509>, ErrorStack> {
    let mut stack = Stack::new()?;
    for certificate in certificates {
        stack.push(certificate.clone())?;
    }
    Ok(stack)
}

fn bare(identity: &PublicIdentity) -> Failure {
    let name = &identity.name;
    let message = format!("identity {name:?} is a bare key; give the certificate chain that goes with it");
    Failure::new(ErrorCode::Invalid, message)
}

/// Returns the failure for a chain that belongs to another key.
pub(crate) fn foreign_chain(identity: &PublicIdentity, chain: &[X509]) -> Failure {
    let subject = chain.first().map(|leaf| safe_ffi::name_text(leaf.subject_name())).unwrap_or_default();
    let name = &identity.name;
    let message = format!(
        "the chain's first certificate (subject {subject}) does not carry the public key of identity {name:?}"
    );
    Failure::new(ErrorCode::Invalid, message)
}

fn unusable(identity: &PublicIdentity, error: &ErrorStack) -> Failure {
    let reason = error.errors().first().and_then(|error| error.reason()).unwrap_or("unknown algorithm");
    let message = format!("identity {:?} cannot be used: {reason}", identity.name);
    Failure::new(ErrorCode::Invalid, message)
}
