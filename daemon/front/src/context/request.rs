//! A context as a program described it.

use crate::authorization::quota::QuotaGuard;
use luassl_protocol::{ContextSpec, DhSpec, Digest};
use std::{collections::HashMap, sync::Arc};

/// A context as a client described it, with the bytes that it refers to.
pub(crate) struct ContextRequest {
    pub(crate) spec: ContextSpec,
    pub(crate) blobs: HashMap<Digest, Arc<[u8]>>,
    /// Whether the client had this context before.
    pub(crate) recreated: bool,
    /// Its parts of the limits on contexts and on parsed bytes.
    pub(crate) _slots: Vec<QuotaGuard>,
}

impl ContextRequest {
    /// Returns whether its handshakes may ask the client for keys.
    pub(crate) fn asks_for_keys(&self) -> bool {
        self.spec.psk.as_ref().is_some_and(|psk| psk.ask)
    }
}

/// Returns all identities that a description names.
pub(crate) fn identities_of(spec: &ContextSpec) -> Vec<String> {
    let by_sni = spec.sni.iter().map(|entry| entry.identity.clone());
    let additional = spec.additional_identities.iter().map(|additional| additional.identity.clone());
    spec.identity
        .iter()
        .cloned()
        .chain(spec.identities.iter().cloned())
        .chain(by_sni)
        .chain(additional)
        .collect()
}

/// Returns the digests that a description refers to.
pub(crate) fn digests_of(spec: &ContextSpec) -> Vec<Digest> {
    let mut digests: Vec<Digest> = spec.chain.iter().chain(&spec.chain_or_trust).copied().collect();
    digests.extend(spec.additional_identities.iter().filter_map(|additional| additional.chain));
    digests.extend(spec.trust.certificates.iter().chain(&spec.trust.crls).copied());
    if let Some(DhSpec::Parameters(digest)) = &spec.dh {
        digests.push(*digest);
    }
    digests
}
