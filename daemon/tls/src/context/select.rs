//! Selects the identity of a server by the name that the client requests.

use crate::context::credentials::Credentials;
use crate::names::Index;
use openssl::error::ErrorStack;
use openssl::pkey::Id;
use openssl::ssl::{NameType, SniError, SslAlert, SslRef};
use std::sync::Arc;

/// The identities of a context, by their names.
pub(crate) struct Selection {
    pub(crate) all: Vec<Arc<Credentials>>,
    /// The identity whose certificate is set in the context itself.
    pub(crate) own: Option<usize>,
    /// The identity for clients that request no name, or an unknown one.
    pub(crate) default: Option<usize>,
    /// Identities by names that the client of the daemon chose. These take precedence.
    pub(crate) explicit: Index,
    /// Identities by names in certificates.
    pub(crate) by_certificate: Index,
    /// Whether a name without an identity is refused.
    pub(crate) strict: bool,
}

impl Selection {
    /// The servername callback. OpenSSL also calls it on clients, which have nothing to select.
    pub(crate) fn select(&self, ssl: &mut SslRef, alert: &mut SslAlert) -> Result<(), SniError> {
        if !ssl.is_server() {
            return Err(SniError::NOACK);
        }
        let Some(name) = ssl.servername_raw(NameType::HOST_NAME) else {
            return self.unnamed(ssl, alert);
        };
        let name = String::from_utf8_lossy(name).into_owned();
        match self.named(&name) {
            [] if self.strict => Err(unrecognized(alert)),
            [] => self.unnamed(ssl, alert),
            answers => self.use_all(ssl, answers, alert),
        }
    }

    fn named(&self, name: &str) -> &[usize] {
        match self.explicit.find(name) {
            [] => self.by_certificate.find(name),
            answers => answers,
        }
    }

    /// Returns the identities for the name that a client requests. Empty if the client will be refused.
    pub(crate) fn answers(&self, name: Option<&str>) -> &[usize] {
        match name.map(|name| self.named(name)) {
            Some([]) if self.strict => &[],
            None | Some([]) => self.default.as_slice(),
            Some(answers) => answers,
        }
    }

    fn unnamed(&self, ssl: &mut SslRef, alert: &mut SslAlert) -> Result<(), SniError> {
        let default = self.default.ok_or_else(|| unrecognized(alert))?;
        self.use_all(ssl, &[default], alert)?;
        Err(SniError::NOACK)
    }

    fn use_all(&self, ssl: &mut SslRef, answers: &[usize], alert: &mut SslAlert) -> Result<(), SniError> {
        self.give(ssl, answers).map_err(|_| {
            *alert = SslAlert::INTERNAL_ERROR;
            SniError::ALERT_FATAL
        })
    }

    /// Sets the first answer of each key type in the session.
    fn give(&self, ssl: &mut SslRef, answers: &[usize]) -> Result<(), ErrorStack> {
        let mut algorithms: Vec<Id> = Vec::new();
        let mut chosen: Vec<usize> = Vec::new();
        for &answer in answers {
            let algorithm = self.all[answer].algorithm();
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
                chosen.push(answer);
            }
        }
        if chosen.len() == 1 && chosen.first() == self.own.as_ref() {
            return Ok(());
        }
        crate::ffi::safe_ffi::session_clear_certificates(ssl);
        chosen.iter().try_for_each(|&answer| self.all[answer].use_in_session(ssl))
    }

    /// The status callback. It staples the OCSP response of the selected certificate, which may be one of the
    /// additional certificates of the context.
    pub(crate) fn staple(
        &self,
        additional: &[Arc<Credentials>],
        ssl: &mut SslRef,
    ) -> Result<bool, ErrorStack> {
        if !ssl.is_server() {
            return Ok(true);
        }
        let certificate = ssl.certificate().map(|certificate| certificate.to_owned());
        let staple = certificate.as_ref().and_then(|certificate| {
            self.all.iter().chain(additional).find_map(|one| one.staple_for(certificate))
        });
        let Some(staple) = staple else { return Ok(false) };
        ssl.set_ocsp_status(staple)?;
        Ok(true)
    }
}

fn unrecognized(alert: &mut SslAlert) -> SniError {
    *alert = SslAlert::UNRECOGNIZED_NAME;
    SniError::ALERT_FATAL
}
