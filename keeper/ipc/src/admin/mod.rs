//! The messages between the supervisor and the keeper on the keeper's admin socket.
//!
//! A push is a [`Request::Begin`], a [`Request::Front`] for each front, a [`Request::Identity`] for each identity and a
//! [`Request::Commit`]. A push has no effect before the commit, and it is discarded if the socket closes without a
//! commit or another `Begin` arrives. The answer to `Begin` is [`Answer::Begun`], which separates late answers to an
//! aborted push from the answers to this one. `Front` has no answer. The answer to `Identity` is [`Answer::Loaded`] or
//! [`Answer::Failed`], and the answer to `Commit` is [`Answer::Committed`]. The supervisor reads each answer before it
//! sends the next identity. A [`Request::Tickets`], a [`Request::Rates`] and a [`Request::Handshake`] may each be sent
//! once, anywhere before the commit; the latter two have no answer. A [`Request::Status`] may be sent at any time. Its
//! answer is an [`Answer::Count`] for each account, then [`Answer::Counted`].

mod answer;
mod rights;

pub use crate::account::{Count, Rates};
pub use answer::{ANSWER_MAX, Answer, Blamed, Failed, Fault, Loaded};
pub use rights::{Files, Rights};

use crate::wire::{Malformed, Reader, TooLong, Writer};

/// The length of the longest request, in bytes. A list of identities that does not fit is split into several
/// [`Request::Front`].
pub const REQUEST_MAX: usize = 64 << 10;

/// The maximum number of descriptors in one request.
pub const DESCRIPTORS_MAX: usize = 4;

const FRONT: u8 = 0x41;
const IDENTITY: u8 = 0x42;
const COMMIT: u8 = 0x43;
const TICKETS: u8 = 0x46;
const RATES: u8 = 0x47;
const STATUS: u8 = 0x48;
const HANDSHAKE: u8 = 0x4c;
const BEGIN: u8 = 0x4d;

/// A request from the supervisor to the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Discards everything since the last commit.
    Begin {
        /// The number of the push, unique within the connection.
        serial: u64,
    },
    /// Sets the rights of a front. A second request for the same front adds to them. An identity in several requests
    /// has the rights of each.
    Front {
        /// The front's name, as in its socket's `front.NAME`.
        name: &'a str,
        /// The rights of the front to these identities.
        rights: Rights,
        /// Whether the rights apply to all identities. The list is then ignored.
        all: bool,
        /// The names of identities.
        identities: Vec<&'a str>,
    },
    /// Pushes an identity, with the descriptors of its files.
    Identity {
        /// Its name.
        name: &'a str,
        /// The files whose descriptors are part of the request.
        files: Files,
    },
    /// Sets how ticket keys are made, with the descriptor of the root file if there is one. Without this request, the
    /// keeper generates the root, each front has its own keys, and an epoch has [`EPOCH`] seconds.
    Tickets {
        /// The length of an epoch, in seconds; never 0.
        epoch: u32,
        /// Whether the descriptor of the root file is part of the request.
        root: bool,
        /// The fronts whose ticket domain is not their own name, with the domain. Fronts of one domain share keys.
        domains: Vec<(&'a str, &'a str)>,
    },
    /// Sets how many requests per second each front may make. Without this request: [`Rates::default`].
    Rates(Rates),
    /// Sets the handshake deadline. A key still signs for this time after it was replaced. Without this request:
    /// [`HANDSHAKE_MS`].
    Handshake {
        /// The deadline in milliseconds; never 0.
        deadline_ms: u32,
    },
    /// Requests the counters.
    Status,
    /// Puts everything since the last commit into effect. Everything that was not sent is withdrawn.
    Commit,
}

/// The default length of an epoch of ticket keys, in seconds.
pub const EPOCH: u32 = 12 * 3600;

/// The default deadline of a handshake, in milliseconds.
pub const HANDSHAKE_MS: u32 = 30_000;

impl<'a> Request<'a> {
    /// Decodes one datagram.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not a request.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let request = match reader.u8()? {
            BEGIN => Self::Begin { serial: reader.u64()? },
            FRONT => Self::Front {
                name: reader.name()?,
                rights: Rights::decode(reader.u8()?)?,
                all: reader.bool()?,
                identities: reader.list(Reader::name)?,
            },
            IDENTITY => Self::Identity { name: reader.name()?, files: Files::decode(reader.u8()?)? },
            TICKETS => Self::tickets(&mut reader)?,
            RATES => Self::Rates(Rates::decode(&mut reader)?),
            HANDSHAKE => match reader.u32()? {
                0 => return Err(Malformed::Value),
                deadline_ms => Self::Handshake { deadline_ms },
            },
            STATUS => Self::Status,
            COMMIT => Self::Commit,
            kind => return Err(Malformed::Kind(kind)),
        };
        reader.end()?;
        Ok(request)
    }

    fn tickets(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let epoch = reader.u32()?;
        if epoch == 0 {
            return Err(Malformed::Value);
        }
        let domain = |reader: &mut Reader<'a>| Ok((reader.name()?, reader.name()?));
        Ok(Self::Tickets { epoch, root: reader.bool()?, domains: reader.list(domain)? })
    }

    /// Writes the datagram into `out`, and replaces the former content.
    ///
    /// # Errors
    /// [`TooLong`] if the datagram would be longer than [`REQUEST_MAX`] or a name is not valid.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::Begin { serial } => Writer::new(out, REQUEST_MAX, BEGIN).raw(&serial.to_le_bytes()),
            Self::Front { name, rights, all, identities } => {
                let mut writer = Writer::new(out, REQUEST_MAX, FRONT);
                writer.name(name)?;
                writer.raw(&[rights.encode(), u8::from(*all)])?;
                writer.list(identities, Writer::name)
            }
            Self::Identity { name, files } => {
                let mut writer = Writer::new(out, REQUEST_MAX, IDENTITY);
                writer.name(name)?;
                writer.raw(&[files.encode()])
            }
            Self::Tickets { epoch, root, domains } => {
                let mut writer = Writer::new(out, REQUEST_MAX, TICKETS);
                writer.raw(&epoch.to_le_bytes())?;
                writer.raw(&[u8::from(*root)])?;
                writer.list(domains, |writer, (front, domain)| {
                    writer.name(front)?;
                    writer.name(domain)
                })
            }
            Self::Rates(rates) => rates.encode(Writer::new(out, REQUEST_MAX, RATES)),
            Self::Handshake { deadline_ms } => {
                Writer::new(out, REQUEST_MAX, HANDSHAKE).raw(&deadline_ms.to_le_bytes())
            }
            Self::Status => {
                Writer::new(out, REQUEST_MAX, STATUS);
                Ok(())
            }
            Self::Commit => {
                Writer::new(out, REQUEST_MAX, COMMIT);
                Ok(())
            }
        }
    }
}
