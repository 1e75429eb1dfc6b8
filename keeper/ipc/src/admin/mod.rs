//! What the supervisor and the keeper say to each other over the keeper's admin socket.
//!
//! A push is a [`Request::Begin`], a [`Request::Front`] for each front, a [`Request::Identity`] for each identity and a
//! [`Request::Commit`]; nothing that it says takes effect before the commit, and nothing of it is left when the
//! socket closes without one, or another `Begin` comes. `Begin` is answered by [`Answer::Begun`], which tells late answers
//! to a push that broke off from those to this one. `Front` has no answer, `Identity` is answered by [`Answer::Loaded`] or
//! [`Answer::Failed`], `Commit` by [`Answer::Committed`]; the supervisor reads each answer before it sends the next
//! identity. A [`Request::Tickets`], a [`Request::Rates`] and a [`Request::Handshake`] may come once, anywhere before the
//! commit; the latter two have no answer. A [`Request::Status`] may come at any time, and is answered by an [`Answer::Count`] for each account, then
//! [`Answer::Counted`].

mod answer;
mod rights;

pub use crate::account::{Count, Rates};
pub use answer::{ANSWER_MAX, Answer, Blamed, Failed, Fault, Loaded};
pub use rights::{Files, Rights};

use crate::wire::{Malformed, Reader, TooLong, Writer};

/// Longest request, in bytes. A list of identities that does not fit goes into several [`Request::Front`].
pub const REQUEST_MAX: usize = 64 << 10;

/// Descriptors that come with one request, at most.
pub const DESCRIPTORS_MAX: usize = 4;

const FRONT: u8 = 0x41;
const IDENTITY: u8 = 0x42;
const COMMIT: u8 = 0x43;
const TICKETS: u8 = 0x46;
const RATES: u8 = 0x47;
const STATUS: u8 = 0x48;
const HANDSHAKE: u8 = 0x4c;
const BEGIN: u8 = 0x4d;

/// From the supervisor to the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Discards everything since the last commit.
    Begin {
        /// The number of the push, unique within the connection.
        serial: u64,
    },
    /// What a front has. A second one for the same front adds to it; an identity in several has the rights of each.
    Front {
        /// The front's name, as in its socket's `front.NAME`.
        name: &'a str,
        /// What it has of these identities.
        rights: Rights,
        /// Whether these are all identities; the list then does not matter.
        all: bool,
        /// Names of identities.
        identities: Vec<&'a str>,
    },
    /// An identity, with its files' descriptors.
    Identity {
        /// Its name.
        name: &'a str,
        /// Which files came along.
        files: Files,
    },
    /// How ticket keys are made, with the descriptor of the root's file where there is one. Not said: from a root
    /// that the keeper draws itself, for each front its own, in epochs of [`EPOCH`] seconds.
    Tickets {
        /// How long an epoch is, in seconds; never 0.
        epoch: u32,
        /// Whether the root's file came along.
        root: bool,
        /// Fronts whose ticket domain is not their own name, with the domain. Fronts of one domain share keys.
        domains: Vec<(&'a str, &'a str)>,
    },
    /// How many requests a second each front may make. Not said: [`Rates::default`].
    Rates(Rates),
    /// How long a handshake may last: so long a key still signs after it was replaced. Not said: [`HANDSHAKE_MS`].
    Handshake {
        /// Its deadline in milliseconds; never 0.
        deadline_ms: u32,
    },
    /// Asks what was counted.
    Status,
    /// Puts everything since the last commit into effect. What was not sent is withdrawn.
    Commit,
}

/// The usual length of an epoch of ticket keys, in seconds.
pub const EPOCH: u32 = 12 * 3600;

/// The usual deadline of a handshake, in milliseconds.
pub const HANDSHAKE_MS: u32 = 30_000;

impl<'a> Request<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a request.
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

    /// Writes the datagram into `out`, whose former content is lost.
    ///
    /// # Errors
    /// [`TooLong`] when it would be longer than [`REQUEST_MAX`] or a name is none.
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
