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

pub use crate::account::{Count, Rates};

use crate::wire::{Malformed, Reader, TooLong, Writer};

/// Longest request, in bytes. A list of identities that does not fit goes into several [`Request::Front`].
pub const REQUEST_MAX: usize = 64 << 10;

/// Longest answer, in bytes: a receive buffer of this size never cuts one.
pub const ANSWER_MAX: usize = 96 << 10;

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

const LOADED: u8 = 0xc1;
const FAILED: u8 = 0xc2;
const COMMITTED: u8 = 0xc3;
const TICKETS_TAKEN: u8 = 0xc6;
const TICKETS_FAILED: u8 = 0xc7;
const COUNT: u8 = 0xc8;
const COUNTED: u8 = 0xc9;
const BEGUN: u8 = 0xcd;

/// What a front may have of an identity. Whoever reaches an identity without any of these learns its public half, and
/// gets nothing signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct Rights {
    /// CertificateVerify of a TLS 1.3 server.
    pub tls13_server: bool,
    /// ServerKeyExchange of a TLS 1.2 server, with ECDHE.
    pub tls12_server: bool,
    /// ServerKeyExchange with DHE as well, beside `tls12_server`.
    pub dhe: bool,
    /// RSA key exchange of a TLS 1.2 server: a pre-master secret is decrypted.
    pub rsa_key_exchange: bool,
    /// CertificateVerify of a TLS 1.3 client.
    pub tls13_client: bool,
    /// CertificateVerify of a TLS 1.2 client.
    pub tls12_client: bool,
    /// Each use is logged.
    pub audit: bool,
}

impl Rights {
    fn decode(bits: u8) -> Result<Self, Malformed> {
        if bits & !127 != 0 {
            return Err(Malformed::Value);
        }
        let bit = |n: u8| bits & (1 << n) != 0;
        Ok(Self {
            tls13_server: bit(0),
            tls12_server: bit(1),
            dhe: bit(2),
            rsa_key_exchange: bit(3),
            tls13_client: bit(4),
            tls12_client: bit(5),
            audit: bit(6),
        })
    }

    fn encode(self) -> u8 {
        let bits = [
            self.tls13_server,
            self.tls12_server,
            self.dhe,
            self.rsa_key_exchange,
            self.tls13_client,
            self.tls12_client,
            self.audit,
        ];
        bits.into_iter().rev().fold(0, |sum, bit| sum << 1 | u8::from(bit))
    }

    /// What either gives.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            tls13_server: self.tls13_server || other.tls13_server,
            tls12_server: self.tls12_server || other.tls12_server,
            dhe: self.dhe || other.dhe,
            rsa_key_exchange: self.rsa_key_exchange || other.rsa_key_exchange,
            tls13_client: self.tls13_client || other.tls13_client,
            tls12_client: self.tls12_client || other.tls12_client,
            audit: self.audit || other.audit,
        }
    }
}

/// Which files of an identity; those of a request come as descriptors in the order of the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// The private key, with or without certificates behind it. Always there.
    pub key: bool,
    /// The certificate chain.
    pub certificate: bool,
    /// The passphrase of the key.
    pub password: bool,
    /// The OCSP response.
    pub staple: bool,
}

impl Files {
    /// How many there are.
    #[must_use]
    pub fn count(self) -> usize {
        [self.key, self.certificate, self.password, self.staple].into_iter().filter(|is| *is).count()
    }

    fn decode(bits: u8) -> Result<Self, Malformed> {
        if bits & !15 != 0 {
            return Err(Malformed::Value);
        }
        let bit = |n: u8| bits & (1 << n) != 0;
        Ok(Self { key: bit(0), certificate: bit(1), password: bit(2), staple: bit(3) })
    }

    fn encode(self) -> u8 {
        let [key, certificate, password, staple] =
            [self.key, self.certificate, self.password, self.staple].map(u8::from);
        key | certificate << 1 | password << 2 | staple << 3
    }
}

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
