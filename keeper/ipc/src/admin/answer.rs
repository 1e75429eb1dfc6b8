//! The answers of the keeper to the supervisor.

use crate::{
    account::Count,
    wire::{Malformed, Reader, TooLong, Writer},
};

/// The length of the longest answer, in bytes. A receive buffer of this size never truncates an answer.
pub const ANSWER_MAX: usize = 96 << 10;

const LOADED: u8 = 0xc1;
const FAILED: u8 = 0xc2;
const COMMITTED: u8 = 0xc3;
const TICKETS_TAKEN: u8 = 0xc6;
const TICKETS_FAILED: u8 = 0xc7;
const COUNT: u8 = 0xc8;
const COUNTED: u8 = 0xc9;
const BEGUN: u8 = 0xcd;

/// An answer from the keeper to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A push has begun. Earlier answers belong to other pushes.
    Begun {
        /// The serial number of the push.
        serial: u64,
    },
    /// An identity was loaded. It is in service from the next commit.
    Loaded(Loaded<'a>),
    /// An identity is not usable; the previous generation stays in service.
    Failed(Failed<'a>),
    /// The keeper accepted the settings for ticket keys. They apply from the commit.
    TicketsTaken,
    /// The root of the ticket keys is not usable; the previous one stays in service.
    TicketsFailed {
        /// The kind of fault.
        kind: Fault,
        /// Cause and remedy, for people.
        reason: &'a str,
    },
    /// The push has taken effect.
    Committed {
        /// Warnings about the keeper for the operator, as text.
        warnings: Vec<&'a str>,
    },
    /// The counters of a front and one identity since the start of the keeper.
    Count(Count<'a>),
    /// All accounts have been sent.
    Counted,
}

/// Properties of a loaded identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<'a> {
    /// Its name.
    pub name: &'a str,
    /// The generation of the identity, now or from the commit.
    pub generation: u64,
    /// Whether key, chain or staple differ from those in service.
    pub changed: bool,
    /// For people: `RSA 2048`, `P-256`, `P-384`, `P-521`, `Ed25519`, `Ed448`.
    pub key_type: &'a str,
    /// The SHA-256 of the public key (DER SubjectPublicKeyInfo). Two identities with the same value have the same
    /// private key.
    pub key_id: [u8; 32],
    /// Certificates that the keeper has not parsed, as in [`Identity`](crate::front::Identity). Empty for a bare key.
    pub chain: Vec<&'a [u8]>,
}

/// The reason why an identity is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed<'a> {
    /// Its name.
    pub name: &'a str,
    /// The file that caused the failure.
    pub file: Blamed,
    /// The kind of fault.
    pub kind: Fault,
    /// Whether an older generation of the identity stays in service.
    pub keeps_previous: bool,
    /// Cause and remedy, for people.
    pub reason: &'a str,
}

/// The file that caused a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blamed {
    /// No file in particular.
    None,
    /// The private key file.
    Key,
    /// The certificate file.
    Certificate,
    /// The passphrase file.
    Password,
    /// The OCSP response file.
    Staple,
}

/// The kind of fault of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The file is not a regular file, too long, or not readable.
    Unreadable,
    /// The file has no private key, or the key cannot be read.
    NoKey,
    /// A passphrase is missing or wrong.
    Passphrase,
    /// The kind or the size of the key is not supported.
    Unsupported,
    /// The certificate file has no certificate, or a certificate cannot be read.
    BadCertificate,
    /// The key and the certificate do not match.
    Mismatch,
    /// The staple is not an OCSP response.
    BadStaple,
    /// A limit was reached: on identities, or on the size of a chain.
    Limit,
    /// libcrypto failed, or the request was wrong.
    Internal,
}

const BLAMED: [Blamed; 5] =
    [Blamed::None, Blamed::Key, Blamed::Certificate, Blamed::Password, Blamed::Staple];

const FAULTS: [Fault; 9] = [
    Fault::Unreadable,
    Fault::NoKey,
    Fault::Passphrase,
    Fault::Unsupported,
    Fault::BadCertificate,
    Fault::Mismatch,
    Fault::BadStaple,
    Fault::Limit,
    Fault::Internal,
];

/// Returns the index of a value in its table, which is its code on the wire.
fn code<T: PartialEq>(table: &[T], value: &T) -> u8 {
    table
        .iter()
        .position(|known| known == value)
        .and_then(|index| u8::try_from(index).ok())
        .unwrap_or(u8::MAX)
}

fn from_code<T: Copy>(table: &[T], code: u8) -> Result<T, Malformed> {
    table.get(usize::from(code)).copied().ok_or(Malformed::Value)
}

impl<'a> Answer<'a> {
    /// Decodes one datagram.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not an answer.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let answer = match reader.u8()? {
            BEGUN => Self::Begun { serial: reader.u64()? },
            LOADED => Self::Loaded(Loaded::decode(&mut reader)?),
            FAILED => Self::Failed(Failed {
                name: reader.name()?,
                file: from_code(&BLAMED, reader.u8()?)?,
                kind: from_code(&FAULTS, reader.u8()?)?,
                keeps_previous: reader.bool()?,
                reason: reader.text()?,
            }),
            TICKETS_TAKEN => Self::TicketsTaken,
            TICKETS_FAILED => {
                Self::TicketsFailed { kind: from_code(&FAULTS, reader.u8()?)?, reason: reader.text()? }
            }
            COMMITTED => Self::Committed { warnings: reader.list(Reader::text)? },
            COUNT => Self::Count(Count::decode(&mut reader)?),
            COUNTED => Self::Counted,
            kind => return Err(Malformed::Kind(kind)),
        };
        reader.end()?;
        Ok(answer)
    }

    /// Writes the datagram into `out`, and replaces the former content.
    ///
    /// # Errors
    /// [`TooLong`] if the datagram would be longer than [`ANSWER_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::Begun { serial } => Writer::new(out, ANSWER_MAX, BEGUN).raw(&serial.to_le_bytes()),
            Self::Loaded(loaded) => loaded.encode(out),
            Self::Failed(failed) => {
                let mut writer = Writer::new(out, ANSWER_MAX, FAILED);
                writer.name(failed.name)?;
                let codes = [
                    code(&BLAMED, &failed.file),
                    code(&FAULTS, &failed.kind),
                    u8::from(failed.keeps_previous),
                ];
                writer.raw(&codes)?;
                writer.text(failed.reason)
            }
            Self::TicketsTaken => {
                Writer::new(out, ANSWER_MAX, TICKETS_TAKEN);
                Ok(())
            }
            Self::TicketsFailed { kind, reason } => {
                let mut writer = Writer::new(out, ANSWER_MAX, TICKETS_FAILED);
                writer.raw(&[code(&FAULTS, kind)])?;
                writer.text(reason)
            }
            Self::Committed { warnings } => {
                let mut writer = Writer::new(out, ANSWER_MAX, COMMITTED);
                writer.list(warnings, Writer::text)
            }
            Self::Count(count) => count.encode(Writer::new(out, ANSWER_MAX, COUNT)),
            Self::Counted => {
                Writer::new(out, ANSWER_MAX, COUNTED);
                Ok(())
            }
        }
    }
}

impl<'a> Loaded<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            name: reader.name()?,
            generation: reader.u64()?,
            changed: reader.bool()?,
            key_type: reader.text()?,
            key_id: reader.array()?,
            chain: reader.list(Reader::bytes)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut writer = Writer::new(out, ANSWER_MAX, LOADED);
        writer.name(self.name)?;
        writer.raw(&self.generation.to_le_bytes())?;
        writer.raw(&[u8::from(self.changed)])?;
        writer.text(self.key_type)?;
        writer.raw(&self.key_id)?;
        writer.list(&self.chain, Writer::bytes)
    }
}
