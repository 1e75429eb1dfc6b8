//! From an identity's open files to a key that can sign and the public half that fronts get.
//!
//! All or nothing: whatever is wrong with one file, the identity is not loaded, and what was in service stays.

use crate::chain::Chain;
use crate::crypto::{Certificate, CryptoError, KeyFault, PrivateKey, ReadFault, SecretFile, sha256};
use crate::limits::{EXPIRES_SOON, FILE_MAX, PASSPHRASE_MAX, STAPLE_MAX};
use luassl_keeper_ipc::admin::{Blamed, Fault};
use luassl_keeper_ipc::front::{CHAIN_MAX, PUBLIC_MAX};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What fronts get: no part of it is secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Public {
    /// SHA-256 of `public_key`.
    pub(crate) key_id: [u8; 32],
    /// DER SubjectPublicKeyInfo.
    pub(crate) public_key: Vec<u8>,
    /// DER certificates, the key's own first; empty for a bare key.
    pub(crate) chain: Vec<Vec<u8>>,
    /// DER OCSP response; empty where there is none.
    pub(crate) staple: Vec<u8>,
}

/// A loaded identity.
pub(crate) struct Identity {
    /// Signs.
    pub(crate) key: Arc<PrivateKey>,
    /// The rest.
    pub(crate) public: Arc<Public>,
}

/// An identity with what there is to say about it.
pub(crate) struct Report {
    /// The identity.
    pub(crate) identity: Identity,
    /// The leaf's validity, in seconds since 1970; zeros for a bare key.
    pub(crate) validity: (i64, i64),
    /// The leaf's host names and addresses.
    pub(crate) names: Vec<String>,
    /// For people.
    pub(crate) warnings: Vec<String>,
}

/// Why an identity was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct LoadFault {
    /// The file that is to blame.
    pub(crate) file: Blamed,
    /// What sort of fault.
    pub(crate) kind: Fault,
    /// Cause and remedy.
    pub(crate) reason: String,
}

/// The open files of an identity.
pub(crate) struct Files {
    /// Key, perhaps with certificates.
    pub(crate) key: OwnedFd,
    /// Certificates.
    pub(crate) certificate: Option<OwnedFd>,
    /// Passphrase.
    pub(crate) password: Option<OwnedFd>,
    /// OCSP response.
    pub(crate) staple: Option<OwnedFd>,
}

impl Files {
    /// Reads, checks and puts together.
    ///
    /// # Errors
    /// [`LoadFault`] for the first thing that is wrong.
    pub(crate) fn load(self) -> Result<Report, LoadFault> {
        let file = read(&self.key, Blamed::Key, FILE_MAX)?;
        let key = self.key(&file)?;
        let chain = self.chain(&file, &key)?;
        drop(file);
        let public_key = key.public_key().map_err(|error| internal(&error))?;
        let key_id = sha256(&public_key).map_err(|error| internal(&error))?;
        let mut warnings = chain.warnings;
        let dates = validities(&chain.certificates)?;
        warnings.extend(date_warnings(&dates, now()));
        let names = chain.certificates.first().map(Certificate::names).unwrap_or_default();
        let der = chain.certificates.iter().map(Certificate::der).collect::<Result<_, _>>();
        let public = Public {
            key_id,
            public_key,
            chain: der.map_err(|error| internal(&error))?,
            staple: self.staple()?,
        };
        public.check_size()?;
        let identity = Identity { key: Arc::new(key), public: Arc::new(public) };
        Ok(Report { identity, validity: dates.first().copied().unwrap_or_default(), names, warnings })
    }

    fn key(&self, file: &SecretFile) -> Result<PrivateKey, LoadFault> {
        let password = self.password.as_ref();
        let password = password.map(|file| read(file, Blamed::Password, PASSPHRASE_MAX)).transpose()?;
        PrivateKey::read(file, password.as_ref()).map_err(LoadFault::from)
    }

    /// The chain of the certificate's file, else of the key's; empty where the latter has none.
    fn chain(&self, key_file: &SecretFile, key: &PrivateKey) -> Result<Chain, LoadFault> {
        let Some(descriptor) = &self.certificate else {
            let given = certificates(key_file, Blamed::Key)?;
            return if given.is_empty() { Ok(bare()) } else { ordered(key, given, Blamed::Key) };
        };
        let file = read(descriptor, Blamed::Certificate, FILE_MAX)?;
        let given = certificates(&file, Blamed::Certificate)?;
        if given.is_empty() {
            let reason = "no certificate in PEM in the file".to_owned();
            return Err(LoadFault { file: Blamed::Certificate, kind: Fault::BadCertificate, reason });
        }
        ordered(key, given, Blamed::Certificate)
    }

    fn staple(&self) -> Result<Vec<u8>, LoadFault> {
        let Some(descriptor) = &self.staple else { return Ok(Vec::new()) };
        let file = read(descriptor, Blamed::Staple, STAPLE_MAX)?;
        file.staple().map_err(|error| LoadFault {
            file: Blamed::Staple,
            kind: Fault::BadStaple,
            reason: format!("not a good OCSP response in DER: {error}"),
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
                "the chain has {} certificates and {size} bytes: {CHAIN_MAX} and {PUBLIC_MAX} are the most",
                self.chain.len()
            ),
        })
    }
}

/// Reads an identity's files as a push does, and says what its key is. Nothing is kept.
///
/// # Errors
/// What a push would be told is wrong, for people.
pub fn examine(
    key: OwnedFd,
    certificate: Option<OwnedFd>,
    staple: Option<OwnedFd>,
) -> Result<String, String> {
    let report = Files { key, certificate, password: None, staple }.load();
    report.map(|report| report.identity.key.kind().to_string()).map_err(|fault| fault.reason)
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

fn certificates(file: &SecretFile, blamed: Blamed) -> Result<Vec<Certificate>, LoadFault> {
    Certificate::read_all(file).map_err(|error| LoadFault {
        file: blamed,
        kind: Fault::BadCertificate,
        reason: format!("a certificate in the file cannot be read: {error}"),
    })
}

fn bare() -> Chain {
    Chain { certificates: Vec::new(), warnings: Vec::new() }
}

fn ordered(key: &PrivateKey, given: Vec<Certificate>, file: Blamed) -> Result<Chain, LoadFault> {
    Chain::of(key, given).ok_or_else(|| LoadFault {
        file,
        kind: Fault::Mismatch,
        reason: "no certificate in the file belongs to the private key".to_owned(),
    })
}

fn validities(chain: &[Certificate]) -> Result<Vec<(i64, i64)>, LoadFault> {
    let dates = chain.iter().map(Certificate::validity).collect::<Result<_, _>>();
    dates.map_err(|error| LoadFault {
        file: Blamed::Certificate,
        kind: Fault::BadCertificate,
        reason: format!("a certificate has no readable dates: {error}"),
    })
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The leaf first; of the others only what is already wrong.
fn date_warnings(dates: &[(i64, i64)], now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (place, (before, after)) in dates.iter().enumerate() {
        let which = if place == 0 { "the certificate" } else { "an issuer's certificate in the chain" };
        let soon = EXPIRES_SOON.as_secs().cast_signed();
        if *after < now {
            warnings.push(format!("{which} expired {} ago: renew it", days(now - after)));
        } else if *before > now {
            warnings.push(format!(
                "{which} is not valid before {} from now: check the clock",
                days(before - now)
            ));
        } else if after - now < soon && place == 0 {
            warnings.push(format!("{which} expires in {}: renew it", days(after - now)));
        }
    }
    warnings
}

fn days(seconds: i64) -> String {
    match seconds / 86_400 {
        0 => format!("{} hours", seconds / 3600),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn warnings(dates: &[(i64, i64)]) -> Vec<String> {
        date_warnings(dates, 1_000 * DAY)
    }

    #[test]
    fn good_dates_are_not_warned_of() {
        assert!(warnings(&[(0, 1_014 * DAY), (0, 1_001 * DAY)]).is_empty());
        assert!(warnings(&[]).is_empty());
    }

    #[test]
    fn each_bad_date_has_its_warning() {
        let expired = warnings(&[(0, 997 * DAY)]);
        assert_eq!(expired, ["the certificate expired 3 days ago: renew it"]);
        let early = warnings(&[(1_001 * DAY, 2_000 * DAY)]);
        assert_eq!(early, ["the certificate is not valid before 1 day from now: check the clock"]);
        let soon = warnings(&[(0, 1_014 * DAY - 1)]);
        assert_eq!(soon, ["the certificate expires in 13 days: renew it"]);
        let issuer = warnings(&[(0, 2_000 * DAY), (0, 1_000 * DAY - 7200)]);
        assert_eq!(issuer, ["an issuer's certificate in the chain expired 2 hours ago: renew it"]);
    }
}
