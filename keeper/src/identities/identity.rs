//! Builds an identity from its open files: a key that can sign, and the public half that fronts get.
//!
//! If any file has an error, the identity is not loaded, and the previous generation stays in service.

use crate::crypto::{CryptoError, KeyFault, PrivateKey, ReadFault, SecretFile, certificates, sha256};
use crate::identities::chain;
use crate::limits::{FILE_MAX, PASSPHRASE_MAX, STAPLE_MAX};
use luassl_keeper_ipc::admin::{Blamed, Fault};
use luassl_keeper_ipc::front::{CHAIN_MAX, PUBLIC_MAX};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The part of an identity that fronts get. It contains no secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Public {
    /// SHA-256 of `public_key`.
    pub(crate) key_id: [u8; 32],
    /// DER SubjectPublicKeyInfo.
    pub(crate) public_key: Vec<u8>,
    /// The certificates, not parsed: the one with the public key first, the others in the order of the file. Empty for
    /// a bare key.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The OCSP response in DER. Empty if there is none.
    pub(crate) staple: Vec<u8>,
}

/// A loaded identity.
pub(crate) struct Identity {
    /// The private key.
    pub(crate) key: Arc<PrivateKey>,
    /// The public part.
    pub(crate) public: Arc<Public>,
}

/// The reason why an identity was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct LoadFault {
    /// The file that caused the failure.
    pub(crate) file: Blamed,
    /// The kind of fault.
    pub(crate) kind: Fault,
    /// Cause and remedy.
    pub(crate) reason: String,
}

/// The open files of an identity.
pub(crate) struct Files {
    /// The key, optionally with certificates.
    pub(crate) key: OwnedFd,
    /// Certificates.
    pub(crate) certificate: Option<OwnedFd>,
    /// Passphrase.
    pub(crate) password: Option<OwnedFd>,
    /// OCSP response.
    pub(crate) staple: Option<OwnedFd>,
}

impl Files {
    /// Reads and checks the files, and builds the identity.
    ///
    /// # Errors
    /// [`LoadFault`] for the first error.
    pub(crate) fn load(self) -> Result<Identity, LoadFault> {
        let file = read(&self.key, Blamed::Key, FILE_MAX)?;
        let key = self.key(&file)?;
        let public_key = key.public_key().map_err(|error| internal(&error))?;
        let key_id = sha256(&public_key).map_err(|error| internal(&error))?;
        let chain = self.chain(&file, &public_key)?;
        drop(file);
        let public = Public { key_id, public_key, chain, staple: self.staple()? };
        public.check_size()?;
        Ok(Identity { key: Arc::new(key), public: Arc::new(public) })
    }

    fn key(&self, file: &SecretFile) -> Result<PrivateKey, LoadFault> {
        let password = self.password.as_ref();
        let password = password.map(|file| read(file, Blamed::Password, PASSPHRASE_MAX)).transpose()?;
        PrivateKey::read(file, password.as_ref()).map_err(LoadFault::from)
    }

    /// Returns the chain of the certificate file if there is one, else the chain of the key file, which may be empty.
    fn chain(&self, key_file: &SecretFile, public_key: &[u8]) -> Result<Vec<Vec<u8>>, LoadFault> {
        let Some(descriptor) = &self.certificate else {
            let given = pick(key_file, Blamed::Key)?;
            return if given.is_empty() { Ok(given) } else { leaf_first(public_key, given, Blamed::Key) };
        };
        let file = read(descriptor, Blamed::Certificate, FILE_MAX)?;
        let given = pick(&file, Blamed::Certificate)?;
        if given.is_empty() {
            let reason = "the file contains no certificate in PEM".to_owned();
            return Err(LoadFault { file: Blamed::Certificate, kind: Fault::BadCertificate, reason });
        }
        leaf_first(public_key, given, Blamed::Certificate)
    }

    fn staple(&self) -> Result<Vec<u8>, LoadFault> {
        let Some(descriptor) = &self.staple else { return Ok(Vec::new()) };
        let file = read(descriptor, Blamed::Staple, STAPLE_MAX)?;
        file.staple().map_err(|error| LoadFault {
            file: Blamed::Staple,
            kind: Fault::BadStaple,
            reason: format!("not a valid OCSP response in DER: {error}"),
        })
    }
}

impl Public {
    fn check_size(&self) -> Result<(), LoadFault> {
        let chain: usize = self.chain.iter().map(|certificate| certificate.len() + 4).sum();
        let size = chain + self.public_key.len() + self.staple.len();
        if size <= PUBLIC_MAX && self.chain.len() <= CHAIN_MAX {
            return Ok(());
        }
        Err(LoadFault {
            file: Blamed::Certificate,
            kind: Fault::Limit,
            reason: format!(
                "the chain has {} certificates and {size} bytes: at most {CHAIN_MAX} and {PUBLIC_MAX} are allowed",
                self.chain.len()
            ),
        })
    }
}

/// Reads the files of an identity as a push does, and returns the kind of its key. Keeps no data.
///
/// # Errors
/// The error that a push would report, as text.
pub fn examine(
    key: OwnedFd,
    certificate: Option<OwnedFd>,
    staple: Option<OwnedFd>,
) -> Result<String, String> {
    let identity = Files { key, certificate, password: None, staple }.load();
    identity.map(|identity| identity.key.kind().to_string()).map_err(|fault| fault.reason)
}

impl From<KeyFault> for LoadFault {
    fn from(fault: KeyFault) -> Self {
        let (file, kind) = match fault {
            KeyFault::Missing(_) | KeyFault::Unreadable(_) => (Blamed::Key, Fault::NoKey),
            KeyFault::NeedsPassphrase => (Blamed::Key, Fault::Passphrase),
            KeyFault::WrongPassphrase => (Blamed::Password, Fault::Passphrase),
            KeyFault::Unsupported(_) => (Blamed::Key, Fault::Unsupported),
            KeyFault::Damaged => (Blamed::Key, Fault::Mismatch),
        };
        Self { file, kind, reason: fault.to_string() }
    }
}

fn internal(error: &CryptoError) -> LoadFault {
    LoadFault { file: Blamed::None, kind: Fault::Internal, reason: format!("libcrypto: {error}") }
}

fn read(descriptor: &OwnedFd, file: Blamed, max: usize) -> Result<SecretFile, LoadFault> {
    SecretFile::read(descriptor.as_fd(), max).map_err(|fault: ReadFault| LoadFault {
        file,
        kind: Fault::Unreadable,
        reason: fault.to_string(),
    })
}

fn pick(file: &SecretFile, blamed: Blamed) -> Result<Vec<Vec<u8>>, LoadFault> {
    certificates(file).map_err(|error| LoadFault {
        file: blamed,
        kind: Fault::BadCertificate,
        reason: format!("a certificate in the file cannot be read: {error}"),
    })
}

fn leaf_first(public_key: &[u8], given: Vec<Vec<u8>>, file: Blamed) -> Result<Vec<Vec<u8>>, LoadFault> {
    chain::leaf_first(public_key, given).ok_or_else(|| LoadFault {
        file,
        kind: Fault::Mismatch,
        reason: "no certificate in the file belongs to the private key".to_owned(),
    })
}
