//! Parsed CA certificates and CRLs that clients supply. They are cached because programs supply the same ones for many
//! contexts.

use crate::context::source::{Charge, Ledger};
use crate::verify::store::store_of;
use crate::{
    ffi::{memory, safe_ffi},
    verify::pem,
};
use luassl_protocol::{ErrorCode, Failure};
use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::x509::store::X509Store;
use openssl::x509::{X509, X509Crl};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The size of the PEM that stays parsed for later contexts, in bytes. The least recently used is dropped first.
const MOST: usize = 4 << 20;

/// The parsed material of a client.
pub(crate) struct ClientSupplied {
    pub(crate) certificates: Vec<X509>,
    pub(crate) crls: Vec<X509Crl>,
    pub(crate) store: X509Store,
    /// The digest of all its content.
    pub(crate) digest: [u8; 32],
    /// The charges for its memory.
    _charges: Vec<Charge>,
}

/// The maximum number of certificates and CRLs in one context, including chains.
pub(crate) const MAX_CERTIFICATES: usize = 512;

/// The maximum size of all of them together, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Checks the amount of material in one context before any of it is parsed.
///
/// # Errors
/// `Limit`, which names the exceeded limit.
pub fn check_sizes<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Result<(), Failure> {
    let (mut bytes, mut blocks) = (0, 0);
    for text in texts {
        bytes += text.len();
        if bytes > MAX_BYTES {
            return Err(too_much(&format!("more than {MAX_BYTES} bytes of certificates and CRLs")));
        }
        blocks += pem::count(text);
        if blocks > MAX_CERTIFICATES {
            return Err(too_much(&format!("more than {MAX_CERTIFICATES} certificates and CRLs")));
        }
    }
    Ok(())
}

fn too_much(what: &str) -> Failure {
    let hint = "leave out what is not needed, or have the operator declare them as a [trust] and name that";
    Failure::new(ErrorCode::Limit, format!("a context brings {what}: {hint}"))
}

/// Parses, and charges the memory for the result. The charge is the growth that libcrypto's allocator counts, and at
/// least the size of the text.
pub(crate) fn charged<T>(
    ledger: Option<&dyn Ledger>,
    text: usize,
    parse: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Option<Charge>), Failure> {
    let (parsed, grown) = memory::grown_by(parse);
    let parsed = parsed?;
    let charge = ledger.map(|ledger| ledger.charge(grown.max(text as u64))).transpose()?;
    Ok((parsed, charge))
}

/// The step in which decoded extensions are charged, in bytes. This detects an exceeded limit of the owner early, and
/// not after all extensions are decoded: names take up to thirty times the size of their text.
const STEP: u64 = 256 << 10;

/// Does the same as [`decode_extensions`], and charges the memory for it.
fn decode_charged(
    ledger: Option<&dyn Ledger>,
    certificates: &[X509],
    charges: &mut Vec<Charge>,
) -> Result<(), Failure> {
    let mut rest = certificates;
    while !rest.is_empty() {
        let (decoded, charge) = charged(ledger, 0, || Ok(decode_some(rest)))?;
        charges.extend(charge);
        rest = &rest[decoded..];
    }
    Ok(())
}

/// Decodes extensions until they take [`STEP`]. Returns the number of certificates that were decoded.
fn decode_some(certificates: &[X509]) -> usize {
    let mut taken = 0;
    let mut decoded = 0;
    while decoded < certificates.len() && taken < STEP {
        taken += memory::grown_by(|| decode_extensions(&certificates[decoded..=decoded])).1;
        decoded += 1;
    }
    decoded
}

/// Makes OpenSSL decode the extensions of certificates now. Otherwise it would decode and keep them at their first use.
pub(crate) fn decode_extensions(certificates: &[X509]) {
    safe_ffi::without_error_queue(|| {
        for certificate in certificates {
            safe_ffi::is_authority(certificate);
        }
    });
}

/// The material of one client: its owner, CA certificates and CRLs, in PEM.
pub(crate) struct Material<'a> {
    pub(crate) owner: &'a str,
    pub(crate) certificates: Vec<&'a [u8]>,
    pub(crate) crls: Vec<&'a [u8]>,
    pub(crate) ledger: Option<&'a dyn Ledger>,
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

    fn parse(&self, digest: [u8; 32]) -> Result<ClientSupplied, Failure> {
        let ((certificates, crls), charge) = charged(self.ledger, self.size(), || self.read())?;
        let mut charges = Vec::from_iter(charge);
        decode_charged(self.ledger, &certificates, &mut charges)?;
        let unusable =
            |error: ErrorStack| Failure::new(ErrorCode::Invalid, format!("trust cannot be used: {error}"));
        let (store, charge) = charged(self.ledger, 0, || store_of(&certificates, &crls).map_err(unusable))?;
        charges.extend(charge);
        Ok(ClientSupplied { certificates, crls, store, digest, _charges: charges })
    }

    fn read(&self) -> Result<(Vec<X509>, Vec<X509Crl>), Failure> {
        let (mut certificates, mut crls) = (Vec::new(), Vec::new());
        for pem in &self.certificates {
            certificates.extend(pem::certificates(pem).all("trusted certificates")?);
        }
        for pem in &self.crls {
            crls.extend(pem::revocation_lists(pem).all("crls")?);
        }
        Ok((certificates, crls))
    }
}

struct Known {
    owner: String,
    size: usize,
    client_supplied: Arc<ClientSupplied>,
}

/// The most recently parsed material, separate for each owner.
#[derive(Default)]
pub(crate) struct Parsed(Mutex<VecDeque<Known>>);

impl Parsed {
    /// Returns the parsed content of `material`.
    ///
    /// # Errors
    /// `Invalid` for a block that cannot be read.
    pub(crate) fn get(&self, material: &Material<'_>) -> Result<Arc<ClientSupplied>, Failure> {
        let digest = material.digest();
        if let Some(known) = self.find(&digest) {
            return Ok(known);
        }
        let parsed = match material.parse(digest) {
            // The cached material of this owner's former contexts is also charged to its account.
            Err(failure) if failure.code == ErrorCode::Limit && self.forget_unused(material.owner) => {
                material.parse(digest)
            }
            parsed => parsed,
        };
        let client_supplied = Arc::new(parsed?);
        let owner = material.owner.to_owned();
        self.keep(Known { owner, size: material.size(), client_supplied: Arc::clone(&client_supplied) });
        Ok(client_supplied)
    }

    /// Drops the cached material that no context of `owner` uses. Returns `false` if there is none.
    pub(crate) fn forget_unused(&self, owner: &str) -> bool {
        let mut known = self.0.lock();
        let is_unused =
            |known: &Known| known.owner == owner && Arc::strong_count(&known.client_supplied) == 1;
        let (unused, used): (VecDeque<_>, _) = known.drain(..).partition(is_unused);
        *known = used;
        // Freeing takes time, and other threads wait for the lock.
        drop(known);
        !unused.is_empty()
    }

    /// Returns the material with this digest, and moves it to the end as the newest.
    fn find(&self, digest: &[u8; 32]) -> Option<Arc<ClientSupplied>> {
        let mut known = self.0.lock();
        let place = known.iter().position(|known| known.client_supplied.digest == *digest)?;
        let found = known.remove(place)?;
        let client_supplied = Arc::clone(&found.client_supplied);
        known.push_back(found);
        Some(client_supplied)
    }

    fn keep(&self, new: Known) {
        let mut known = self.0.lock();
        known.push_back(new);
        let mut size: usize = known.iter().map(|known| known.size).sum();
        let mut forgotten = Vec::new();
        while size > MOST {
            let Some(oldest) = known.pop_front() else { break };
            size -= oldest.size;
            forgotten.push(oldest);
        }
        // Freeing takes time, and other threads wait for the lock.
        drop(known);
    }
}

#[cfg(test)]
mod tests {
    use crate::kit::pki::Authority;
    use crate::verify::client_supplied::{MOST, Material, Parsed};
    use std::sync::Arc;

    fn material<'a>(owner: &'a str, pem: &'a [u8]) -> Material<'a> {
        Material { owner, certificates: vec![pem], crls: Vec::new(), ledger: None }
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
