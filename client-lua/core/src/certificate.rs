//! Certificates. The daemon parses them, because the client does not link OpenSSL.

use crate::client::Client;
use crate::control::request_deadline;
use crate::error::Error;
use luassl_protocol::{
    CertificateFacts, CheckIssued, Describe, Description, Issued, ReadCertificate, Request,
};
use serde::de::DeserializeOwned;

impl Client {
    /// Parses a certificate, PEM or DER.
    ///
    /// # Errors
    /// Returns an error if the data is not a certificate, or if the daemon cannot be reached.
    pub fn read_certificate(&self, data: Vec<u8>) -> Result<CertificateFacts, Error> {
        self.ask(&Request::Certificate(ReadCertificate { data }))
    }

    /// Returns whether a certificate verifies with `anchor` as its only trust anchor. All certificates are
    /// DER.
    ///
    /// # Errors
    /// As [`Client::read_certificate`].
    pub fn check_issued(
        &self,
        anchor: Vec<u8>,
        certificate: Vec<u8>,
        between: Vec<Vec<u8>>,
    ) -> Result<Issued, Error> {
        let between = between.into_iter().map(Into::into).collect();
        self.ask(&Request::CheckIssued(CheckIssued { anchor, certificate, between }))
    }

    /// Returns the features that the daemon's OpenSSL supports.
    ///
    /// # Errors
    /// Returns an error if the daemon cannot be reached.
    pub fn describe(&self) -> Result<Description, Error> {
        self.ask(&Request::Describe(Describe {}))
    }

    fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        self.repeatable_session(request_deadline(), |session| Ok(session.call(request, None)?.fields))
    }
}
