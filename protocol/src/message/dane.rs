//! DANE: TLSA records for a server's certificate (RFC 6698, RFC 7671). The client is responsible for checking
//! that the records were signed.

use crate::DecodeError;
use crate::bounds::{MAX_TEXT, check_bytes, check_entries};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The maximum number of TLSA records of one connection.
pub const MAX_TLSA: usize = 64;
/// The maximum length of the data of a TLSA record, in bytes. A full certificate fits.
pub const MAX_TLSA_DATA: usize = 16 * 1024;

/// A context whose clients may verify by TLSA records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct DaneSpec {
    /// A record with usage 3 applies independent of the names in the certificate (RFC 7671, 5.1).
    #[serde(skip_serializing_if = "crate::bounds::is_false")]
    pub no_ee_namechecks: bool,
}

/// The parameters of the verification of a client connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dane {
    /// The name of the records. The certificate must contain it.
    pub host: String,
    /// The records. If no record is usable, the trust of the context decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<TlsaRecord>,
}

impl Dane {
    /// Checks the limits.
    ///
    /// # Errors
    /// Returns [`DecodeError::Bound`] with the first field that exceeds its limit.
    pub fn check_bounds(&self) -> Result<(), DecodeError> {
        check_bytes("dane.host", self.host.len(), MAX_TEXT)?;
        check_entries("dane.records", self.records.len(), MAX_TLSA)?;
        let mut data = self.records.iter().map(|record| record.data.len());
        data.try_for_each(|length| check_bytes("dane.records.data", length, MAX_TLSA_DATA))
    }
}

/// A TLSA record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsaRecord {
    /// 0 PKIX-TA, 1 PKIX-EE, 2 DANE-TA, 3 DANE-EE.
    pub usage: u8,
    /// 0 the certificate, 1 its public key.
    pub selector: u8,
    /// 0 in full, 1 its SHA-256, 2 its SHA-512.
    pub matching: u8,
    /// The data to compare.
    pub data: ByteBuf,
}
