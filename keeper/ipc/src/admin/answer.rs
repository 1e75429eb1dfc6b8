//! Answers of the keeper to the supervisor.

use crate::{
    account::Count,
    wire::{Malformed, Reader, TooLong, Writer},
};

/// Longest answer, in bytes: a receive buffer of this size never cuts one.
pub const ANSWER_MAX: usize = 96 << 10;

const LOADED: u8 = 0xc1;
const FAILED: u8 = 0xc2;
const COMMITTED: u8 = 0xc3;
const TICKETS_TAKEN: u8 = 0xc6;
const TICKETS_FAILED: u8 = 0xc7;
const COUNT: u8 = 0xc8;
const COUNTED: u8 = 0xc9;
const BEGUN: u8 = 0xcd;

/// From the keeper to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A push has begun; what was answered before belongs to others.
    Begun {
        /// The push's.
        serial: u64,
    },
    /// An identity was loaded; it serves from the next commit.
    Loaded(Loaded<'a>),
    /// An identity is not usable; the previous generation stays in service.
    Failed(Failed<'a>),
    /// Ticket keys are derived as requested, from the commit on.
    TicketsTaken,
    /// The root of the ticket keys is not usable; the previous one stays in service.
    TicketsFailed {
        /// What sort of fault it is.
        kind: Fault,
        /// Cause and remedy, for people.
        reason: &'a str,
    },
    /// The push has taken effect.
    Committed {
        /// What an operator should know of the keeper itself, for people.
        warnings: Vec<&'a str>,
    },
    /// What a front has had with one identity since the keeper's start.
    Count(Count<'a>),
    /// That was every account.
    Counted,
}

/// Properties of a loaded identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<'a> {
    /// Its name.
    pub name: &'a str,
    /// The generation that it is, or will be from the commit on.
    pub generation: u64,
    /// Whether key, chain or staple differ from what is in service.
    pub changed: bool,
    /// For people: `RSA 2048`, `P-256`, `P-384`, `P-521`, `Ed25519`, `Ed448`.
    pub key_type: &'a str,
    /// SHA-256 of the public key (DER SubjectPublicKeyInfo): two identities that have the same one have the same private
    /// key.
    pub key_id: [u8; 32],
    /// Certificates that the keeper has not parsed, as in [`Identity`](crate::front::Identity); empty for a bare key.
    pub chain: Vec<&'a [u8]>,
}

/// Why an identity is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Which file is to blame.
    pub file: Blamed,
    /// What sort of fault it is.
    pub kind: Fault,
    /// Whether an older generation of it stays in service.
    pub keeps_previous: bool,
    /// Cause and remedy, for people.
    pub reason: &'a str,
}

/// The file that a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blamed {
    /// No file in particular.
    None,
    /// The private key's.
    Key,
    /// The certificate's.
    Certificate,
    /// The passphrase's.
    Password,
    /// The OCSP response's.
    Staple,
}

/// What sort of fault an identity has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not a regular file, too long, or not readable.
    Unreadable,
    /// No private key in the file, or one that cannot be read.
    NoKey,
    /// A passphrase is missing or wrong.
    Passphrase,
    /// A kind or size of key that is not supported.
    Unsupported,
    /// The certificate file has no certificate, or one that cannot be read.
    BadCertificate,
    /// Key and certificate do not belong to each other.
    Mismatch,
    /// The staple is not an OCSP response.
    BadStaple,
    /// A bound was reached: on identities, or on the size of a chain.
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

/// A value's index in its table is its code on the wire.
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
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not an answer.
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

    /// Writes the datagram into `out`, whose former content is lost.
    ///
    /// # Errors
    /// [`TooLong`] when it would be longer than [`ANSWER_MAX`].
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
