//! What a session proves itself with: a certificate, its chain and the key in the keeper.

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
    /// The generation that this was made of.
    pub(crate) identity: Arc<PublicIdentity>,
    /// The host names of the certificate, in lower case, wildcards included.
    pub(crate) host_names: Vec<String>,
    /// SHA-256 of the leaf.
    pub(crate) leaf_digest: [u8; 32],
    leaf: X509,
    chain: Stack<X509>,
    key: PKey<Private>,
    stapled: bool,
}

impl Credentials {
    /// From an identity's own chain, or the one that a client brought, which must carry the identity's public key.
    ///
    /// # Errors
    /// `Invalid`, which names the identity, for a chain of another key, and for a bare key without one.
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

    /// The algorithm of the key: a session can have one certificate of each.
    pub(crate) fn algorithm(&self) -> Id {
        self.key.id()
    }

    /// Makes this the certificate of a context.
    pub(crate) fn use_in_context(&self, context: &mut SslContextBuilder) -> Result<(), Failure> {
        safe_ffi::context_use(context, &self.leaf, &self.key, &self.chain)
            .map_err(|error| unusable(&self.identity, &error))
    }

    /// Adds this certificate to those of a session.
    pub(crate) fn use_in_session(&self, ssl: &mut SslRef) -> Result<(), ErrorStack> {
        safe_ffi::session_use(ssl, &self.leaf, &self.key, &self.chain)
    }

    /// The OCSP response for `certificate`, where that is this one's and has one.
    pub(crate) fn staple_for(&self, certificate: &X509Ref) -> Option<&[u8]> {
        self.identity.staple.as_deref().filter(|_| self.stapled && *certificate == *self.leaf)
    }
}

/// Whether an identity has a staple that can be used: OpenSSL 3.6 fails the handshake for one that cannot.
fn is_stapled(identity: &PublicIdentity) -> bool {
    let Some(staple) = &identity.staple else { return false };
    let readable = OcspResponse::from_der(staple).is_ok();
    if !readable {
        tracing::warn!("identity {:?}: the staple is no OCSP response and is left out", identity.name);
    }
    readable
}

/// Whether the first of some certificates carries the identity's public key.
pub(crate) fn is_chain_of(certificates: &[X509], identity: &PublicIdentity) -> bool {
    let public = public_key(identity);
    public.is_ok_and(|public| certificates.first().is_some_and(|leaf| carries(leaf, &public)))
}

/// Whether the first of some certificates can be one that chains end in: an authority's, or self-signed. A leaf that
/// is neither is meant as a chain, be it a former one: no trust must come of it.
pub(crate) fn is_anchor(certificates: &[X509]) -> bool {
    certificates.first().is_some_and(|first| {
        safe_ffi::without_error_queue(|| safe_ffi::is_authority(first) || is_self_issued(first))
    })
}

fn is_self_issued(certificate: &X509Ref) -> bool {
    certificate.issuer_name().try_cmp(certificate.subject_name()).is_ok_and(std::cmp::Ordering::is_eq)
}

/// The certificates that a client brought, PEM.
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

/// The failure of a chain that is another key's.
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
