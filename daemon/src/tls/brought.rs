//! CA certificates and CRLs that clients bring, parsed: programs bring the same ones for context after context.

use super::pem;
use super::trust::store_of;
use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::x509::store::X509Store;
use openssl::x509::{X509, X509Crl};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How much PEM stays parsed for contexts to come, in bytes; what was not used for longest goes.
const MOST: usize = 4 << 20;

/// What a client brought, parsed.
pub(super) struct Brought {
    pub(super) certificates: Vec<X509>,
    pub(super) crls: Vec<X509Crl>,
    pub(super) store: X509Store,
    /// Of everything in it.
    pub(super) digest: [u8; 32],
}

/// One client's material: whose it is, CA certificates and CRLs, in PEM.
pub(super) struct Material<'a> {
    pub(super) owner: &'a str,
    pub(super) certificates: Vec<&'a [u8]>,
    pub(super) crls: Vec<&'a [u8]>,
}

impl Material<'_> {
    fn size(&self) -> usize {
        self.certificates.iter().chain(&self.crls).map(|pem| pem.len()).sum()
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let none: [&[u8]; 1] = [&[]];
        let parts = self.certificates.iter().chain(&none).chain(&self.crls);
        for part in [self.owner.as_bytes()].iter().chain(parts) {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finish()
    }

    fn parse(&self, digest: [u8; 32]) -> Result<Brought, Failure> {
        let (mut certificates, mut crls) = (Vec::new(), Vec::new());
        for pem in &self.certificates {
            certificates.extend(pem::certificates(pem).all("trusted certificates")?);
        }
        for pem in &self.crls {
            crls.extend(pem::revocation_lists(pem).all("crls")?);
        }
        let unusable =
            |error: ErrorStack| Failure::new(ErrorCode::Invalid, format!("trust cannot be used: {error}"));
        let store = store_of(&certificates, &crls).map_err(unusable)?;
        Ok(Brought { certificates, crls, store, digest })
    }
}

struct Known {
    size: usize,
    brought: Arc<Brought>,
}

/// What was parsed last; each owner's for itself.
#[derive(Default)]
pub(super) struct Parsed(Mutex<VecDeque<Known>>);

impl Parsed {
    /// What `material` holds.
    ///
    /// # Errors
    /// `Invalid` for a block that cannot be read.
    pub(super) fn get(&self, material: &Material<'_>) -> Result<Arc<Brought>, Failure> {
        let digest = material.digest();
        if let Some(known) = self.find(&digest) {
            return Ok(known);
        }
        let brought = Arc::new(material.parse(digest)?);
        self.keep(Known { size: material.size(), brought: Arc::clone(&brought) });
        Ok(brought)
    }

    /// The newest is the last.
    fn find(&self, digest: &[u8; 32]) -> Option<Arc<Brought>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|known| known.brought.digest == *digest)?;
        let found = known.remove(place)?;
        let brought = Arc::clone(&found.brought);
        known.push_back(found);
        Some(brought)
    }

    fn keep(&self, new: Known) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(new);
        let mut size: usize = known.iter().map(|known| known.size).sum();
        while size > MOST {
            let Some(oldest) = known.pop_front() else { break };
            size -= oldest.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Material, Parsed};
    use crate::tls::tests::pki::Authority;
    use std::sync::Arc;

    fn material<'a>(owner: &'a str, pem: &'a [u8]) -> Material<'a> {
        Material { owner, certificates: vec![pem], crls: Vec::new() }
    }

    #[test]
    fn the_same_is_parsed_once_for_an_owner_and_what_is_new_pushes_out_what_is_old() {
        let pem = Authority::root().pem();
        let parsed = Parsed::default();
        let first = parsed.get(&material("one", &pem)).unwrap();
        assert!(Arc::ptr_eq(&first, &parsed.get(&material("one", &pem)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &parsed.get(&material("two", &pem)).unwrap()));
        let large = [&pem[..], &vec![b'\n'; MOST]].concat();
        assert_eq!(parsed.get(&material("one", &large)).unwrap().certificates.len(), 1);
        assert!(!Arc::ptr_eq(&first, &parsed.get(&material("one", &pem)).unwrap()));
        assert!(parsed.get(&material("one", b"nothing")).is_err());
    }
}
