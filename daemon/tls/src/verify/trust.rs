//! Trust: the certificates that chains must end in, and CRLs. They are parsed once and shared by all contexts.

use crate::verify::client_supplied::{ClientSupplied, Parsed};
use crate::verify::peer_keys::KeyFault;
use crate::verify::store::store_of;
use crate::{ffi::safe_ffi, verify::pem};
use luassl_protocol::{ErrorCode, Failure};
use luassl_settings::TrustSettings;
use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::x509::store::X509Store;
use openssl::x509::{X509, X509Crl};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The name of the operating system's trust.
pub(crate) const SYSTEM: &str = "system";

/// One parsed trust.
pub(crate) struct Trust {
    content: [u8; 32],
    certificates: Vec<X509>,
    crls: Vec<X509Crl>,
    store: X509Store,
}

/// The configured trusts of this front. Contexts apply an [`TrustStores::update`] at their next session.
#[derive(Default)]
pub struct TrustStores {
    by_name: RwLock<HashMap<String, Arc<Trust>>>,
    epoch: AtomicU64,
    /// Serialises updates. An update parses while contexts use `by_name`.
    updating: Mutex<()>,
    /// The parsed material of clients.
    pub(crate) parsed: Parsed,
}

impl TrustStores {
    /// Returns stores without any trust, until the first [`TrustStores::update`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the trusts that the supervisor pushed. A trust without a readable certificate keeps its former content,
    /// and the other trusts are not affected. Returns the faults, one sentence for each.
    pub fn update(&self, settings: &BTreeMap<String, TrustSettings>) -> Vec<String> {
        let _updating = self.updating.lock();
        let mut by_name = self.by_name.read().clone();
        let before = by_name.len();
        by_name.retain(|name, _| settings.contains_key(name));
        let mut changed = by_name.len() != before;
        let mut faults = Vec::new();
        for (name, settings) in settings {
            let content = digest(settings);
            if by_name.get(name).is_some_and(|trust| trust.content == content) {
                continue;
            }
            match Trust::parse(name, settings, content, &mut faults) {
                Ok(trust) => {
                    by_name.insert(name.clone(), Arc::new(trust));
                    changed = true;
                }
                Err(fault) => faults.push(fault),
            }
        }
        if changed {
            *self.by_name.write() = by_name;
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        faults
    }

    /// Returns the counter of changes.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn named(&self, name: &str) -> Result<Arc<Trust>, Failure> {
        let by_name = self.by_name.read();
        by_name.get(name).cloned().ok_or_else(|| {
            let message = format!("trust {name:?} is not configured, or holds no certificate");
            Failure::new(ErrorCode::Refused, message)
        })
    }
}

impl Trust {
    fn parse(
        name: &str,
        settings: &TrustSettings,
        content: [u8; 32],
        faults: &mut Vec<String>,
    ) -> Result<Self, String> {
        let (certificates, bad, fault) = read_all(&settings.certificates, pem::certificates);
        let (crls, bad_crls, _) = read_all(&settings.crls, pem::revocation_lists);
        if bad_crls > 0 {
            // Without the list, revoked certificates would be accepted.
            return Err(format!("trust {name:?}: {bad_crls} CRL(s) cannot be read"));
        }
        // A machine may have no certificates. In that case no peer verifies, and servers that request no certificate
        // still work.
        let none_given = name == SYSTEM && settings.certificates.is_empty();
        if certificates.is_empty() && !none_given {
            return Err(format!("trust {name:?} holds no certificate that can be read"));
        }
        if bad > 0 {
            let why = fault.map(|fault| format!("; one has {fault}")).unwrap_or_default();
            faults.push(format!("trust {name:?}: {bad} certificate(s) cannot be read and are left out{why}"));
        }
        let store = store_of(&certificates, &crls).map_err(|error| format!("trust {name:?}: {error}"))?;
        Ok(Self { content, certificates, crls, store })
    }
}

fn read_all<T>(
    files: &[serde_bytes::ByteBuf],
    read: fn(&[u8]) -> pem::Read<T>,
) -> (Vec<T>, usize, Option<KeyFault>) {
    let mut all = (Vec::new(), 0, None);
    for file in files {
        let read = read(file);
        all.0.extend(read.found);
        all.1 += read.bad;
        all.2 = all.2.or(read.fault);
    }
    all
}

fn digest(settings: &TrustSettings) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in settings.certificates.iter().chain([&serde_bytes::ByteBuf::new()]).chain(&settings.crls) {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finish()
}

/// The store that peers are verified against.
pub(crate) struct Anchored {
    /// The digest of all certificates and CRLs.
    pub(crate) digest: [u8; 32],
}

/// The trust of one context: configured trusts by name, and the material that its client supplied.
#[derive(Default)]
pub(crate) struct Anchors {
    named: Vec<String>,
    /// The CA certificates and CRLs that the client supplied.
    pub(crate) client_supplied: Option<Arc<ClientSupplied>>,
    /// Trust anchors from other fields.
    pub(crate) certificates: Vec<X509>,
}

/// A store, and whether it has CRLs.
pub(crate) struct Resolved {
    pub(crate) store: X509Store,
    pub(crate) revocation: bool,
    /// The digest of all its content.
    pub(crate) digest: [u8; 32],
}

impl Anchors {
    /// Adds a configured trust.
    pub(crate) fn add(&mut self, name: &str) {
        if !self.named.iter().any(|known| known == name) {
            self.named.push(name.to_owned());
        }
    }

    /// Returns the configured trusts.
    pub(crate) fn named(&self) -> &[String] {
        &self.named
    }

    /// Returns whether the client supplied any of the trusted certificates.
    pub(crate) fn has_brought_certificates(&self) -> bool {
        let client_supplied = self
            .client_supplied
            .as_ref()
            .is_some_and(|client_supplied| !client_supplied.certificates.is_empty());
        client_supplied || !self.certificates.is_empty()
    }

    /// Returns whether nothing is trusted (CRLs alone are no trust).
    pub(crate) fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.has_brought_certificates()
    }

    /// Returns the store of all of them. It is shared with other contexts if it is one configured trust, or the
    /// material of a client.
    pub(crate) fn resolve(&self, trusts: &TrustStores) -> Result<Resolved, Failure> {
        let named: Vec<_> = self.named.iter().map(|name| trusts.named(name)).collect::<Result<_, _>>()?;
        let client_supplied = self.client_supplied.as_deref();
        let crls = named
            .iter()
            .map(|trust| &trust.crls)
            .chain(client_supplied.map(|client_supplied| &client_supplied.crls));
        let crls: Vec<&X509Crl> = crls.flatten().collect();
        let revocation = !crls.is_empty();
        let store = match (&named[..], client_supplied) {
            ([one], None) if self.certificates.is_empty() => safe_ffi::share_store(&one.store),
            ([], Some(client_supplied)) if self.certificates.is_empty() => {
                safe_ffi::share_store(&client_supplied.store)
            }
            _ => {
                let certificates = named.iter().flat_map(|trust| &trust.certificates);
                let client_supplied =
                    client_supplied.into_iter().flat_map(|client_supplied| &client_supplied.certificates);
                store_of(certificates.chain(client_supplied).chain(&self.certificates), crls)
            }
        };
        let unusable = |error| Failure::new(ErrorCode::Invalid, format!("trust cannot be used: {error}"));
        let digest = self.digest(&named).map_err(unusable)?;
        Ok(Resolved { store: store.map_err(unusable)?, revocation, digest })
    }

    fn digest(&self, named: &[Arc<Trust>]) -> Result<[u8; 32], ErrorStack> {
        let mut digest = Sha256::new();
        let mut part = |kind: u8, bytes: &[u8]| {
            digest.update(&[kind]);
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        named.iter().for_each(|trust| part(0, &trust.content));
        for certificate in &self.certificates {
            part(1, &certificate.to_der()?);
        }
        if let Some(client_supplied) = &self.client_supplied {
            part(2, &client_supplied.digest);
        }
        Ok(digest.finish())
    }
}
