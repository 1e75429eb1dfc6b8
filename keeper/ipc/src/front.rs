//! What a front and the keeper say to each other.
//!
//! A front is known by the socket it came in on, so no message names it. [`Request::Subscribe`] asks for the public
//! half of every identity that this front has: one [`Answer::Identity`] each, then [`Answer::Synced`], then each
//! change as it is made. Until the keeper has had its first push neither comes. A second one is answered by what the
//! front does not know yet and [`Answer::Synced`], so it also asks whether the keeper is alive. A front that has
//! subscribed also gets [`Answer::Tickets`], before the first `Synced` and again with each epoch. [`Request::Sign`] is
//! answered by
//! [`Answer::Signature`], [`Request::Decrypt`] by [`Answer::Secret`], and both by [`Answer::Refused`] where the keeper
//! does not; with the same call number, in the order of the requests of that socket.

use crate::wire::{Malformed, Reader, TooLong, Writer};

/// Longest message that a front may have signed, in bytes, except for TLS 1.2 client authentication.
pub const MESSAGE_MAX: usize = 4 << 10;

/// Longest transcript that a front with the client role may have signed, in bytes.
pub const TRANSCRIPT_MAX: usize = 64 << 10;

/// What a request has beside the message to be signed, in bytes, at most.
const REQUEST_HEADER_MAX: usize = 1 + 4 + 32 + 2 + crate::NAME_MAX + 2 + 4;

/// Longest request, in bytes: a receive buffer of this size never cuts one.
pub const REQUEST_MAX: usize = REQUEST_HEADER_MAX + TRANSCRIPT_MAX;

/// Chain, public key and staple of one identity together, in bytes, at most.
pub const PUBLIC_MAX: usize = 64 << 10;

/// Certificates in a chain, at most.
pub const CHAIN_MAX: usize = 16;

/// Longest answer, in bytes: a receive buffer of this size never cuts one.
pub const ANSWER_MAX: usize = PUBLIC_MAX + 1024;

const SUBSCRIBE: u8 = 0x01;
const SIGN: u8 = 0x02;
const DECRYPT: u8 = 0x03;

const IDENTITY: u8 = 0x81;
const WITHDRAWN: u8 = 0x82;
const SYNCED: u8 = 0x83;
const SIGNATURE: u8 = 0x84;
const REFUSED: u8 = 0x85;
const SECRET: u8 = 0x86;
const TICKETS: u8 = 0x87;

/// From a front to the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Asks for all identities and every change to them.
    Subscribe,
    /// Asks for a signature.
    Sign(Sign<'a>),
    /// Asks for the pre-master secret of TLS 1.2's RSA key exchange.
    Decrypt(Decrypt<'a>),
}

/// A request for a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign<'a> {
    /// Comes back with the answer.
    pub call: u32,
    /// SHA-256 of the DER SubjectPublicKeyInfo: which generation of the identity.
    pub key_id: [u8; 32],
    /// Name of the identity.
    pub name: &'a str,
    /// TLS SignatureScheme (RFC 8446, 4.2.3).
    pub scheme: u16,
    /// What to sign: the whole message, not a digest.
    pub message: &'a [u8],
}

/// A pre-master secret, in bytes (RFC 5246, 8.1.1). No answer to [`Request::Decrypt`] is of another length.
pub const PRE_MASTER: usize = 48;

/// A request for a pre-master secret (RFC 5246, 7.4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decrypt<'a> {
    /// Comes back with the answer.
    pub call: u32,
    /// SHA-256 of the DER SubjectPublicKeyInfo: which generation of the identity.
    pub key_id: [u8; 32],
    /// Name of the identity.
    pub name: &'a str,
    /// The version that the ClientHello offered, which the secret has to begin with.
    pub version: u16,
    /// EncryptedPreMasterSecret, as long as the modulus.
    pub ciphertext: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a request.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let request = match reader.u8()? {
            SUBSCRIBE => Self::Subscribe,
            SIGN => Self::Sign(Sign {
                call: reader.u32()?,
                key_id: reader.array()?,
                name: reader.name()?,
                scheme: reader.u16()?,
                message: reader.bytes()?,
            }),
            DECRYPT => Self::Decrypt(Decrypt {
                call: reader.u32()?,
                key_id: reader.array()?,
                name: reader.name()?,
                version: reader.u16()?,
                ciphertext: reader.bytes()?,
            }),
            kind => return Err(Malformed::Kind(kind)),
        };
        reader.end()?;
        Ok(request)
    }

    /// Writes the datagram into `out`, whose former content is lost.
    ///
    /// # Errors
    /// [`TooLong`] when it would be longer than [`REQUEST_MAX`] or the name is none.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::Subscribe => {
                Writer::new(out, REQUEST_MAX, SUBSCRIBE);
                Ok(())
            }
            Self::Sign(sign) => sign.encode(out),
            Self::Decrypt(decrypt) => decrypt.encode(out),
        }
    }
}

impl Sign<'_> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut writer = Writer::new(out, REQUEST_MAX, SIGN);
        writer.raw(&self.call.to_le_bytes())?;
        writer.raw(&self.key_id)?;
        writer.name(self.name)?;
        writer.raw(&self.scheme.to_le_bytes())?;
        writer.bytes(self.message)
    }
}

impl Decrypt<'_> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut writer = Writer::new(out, REQUEST_MAX, DECRYPT);
        writer.raw(&self.call.to_le_bytes())?;
        writer.raw(&self.key_id)?;
        writer.name(self.name)?;
        writer.raw(&self.version.to_le_bytes())?;
        writer.bytes(self.ciphertext)
    }
}

/// From the keeper to a front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    /// An identity that this front has, or a new generation of one.
    Identity(Identity<'a>),
    /// An identity that this front no longer has.
    Withdrawn {
        /// Its name.
        name: &'a str,
    },
    /// Every identity that there was has been sent.
    Synced,
    /// A signature, as it goes into the handshake message.
    Signature {
        /// Of the request.
        call: u32,
        /// DER for ECDSA, else raw.
        bytes: &'a [u8],
    },
    /// A pre-master secret, or bytes in its place that follow from key, version and ciphertext: nothing tells which.
    Secret {
        /// Of the request.
        call: u32,
        /// Wipe every copy.
        secret: PreMaster<'a>,
    },
    /// Refusal of a signature or a secret.
    Refused {
        /// Of the request.
        call: u32,
        /// Why.
        reason: Refusal,
    },
    /// The keys that session tickets are sealed with.
    Tickets(Tickets<'a>),
}

/// A pre-master secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PreMaster<'a>(pub &'a [u8; PRE_MASTER]);

impl std::fmt::Debug for PreMaster<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PreMaster")
    }
}

/// The ticket keys of three epochs in a row. An epoch is `length` seconds of the clock; its number counts from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tickets<'a> {
    /// How long an epoch is, in seconds; never 0.
    pub length: u32,
    /// Number of the epoch that the second key is for; never 0.
    pub number: u64,
    /// Of the epoch before, of this one, and of the one after it.
    pub keys: [EpochKey<'a>; 3],
}

/// The key of one epoch, from which a front derives those of its contexts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EpochKey<'a>(pub &'a [u8; 32]);

impl std::fmt::Debug for EpochKey<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("EpochKey")
    }
}

/// The public half of one generation of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Its name.
    pub name: &'a str,
    /// Counts up with each change, from 1, over the keeper's life.
    pub generation: u64,
    /// SHA-256 of `public_key`.
    pub key_id: [u8; 32],
    /// DER SubjectPublicKeyInfo.
    pub public_key: &'a [u8],
    /// Certificates that the keeper has not parsed: one with the public key in it first, the others as the file has them;
    /// empty for a bare key.
    pub chain: Vec<&'a [u8]>,
    /// DER OCSP response; empty where there is none.
    pub staple: &'a [u8],
}

/// Why the keeper does not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The keeper has had no push since its start: ask again.
    #[error("the keeper has not been given its keys yet")]
    NotYet,
    /// No such identity for this front.
    #[error("no such identity")]
    UnknownIdentity,
    /// The identity has (or has again) no key with this id.
    #[error("the identity has no such key any more")]
    UnknownKey,
    /// The message is not a handshake message that a TLS peer signs.
    #[error("not a handshake message")]
    NotHandshake,
    /// A handshake message of a role that this front does not have.
    #[error("this front does not have this role")]
    Role,
    /// The scheme does not fit the key, or the protocol version of the message.
    #[error("the signature scheme does not fit")]
    Scheme,
    /// libcrypto could not sign.
    #[error("signing failed")]
    Failed,
    /// RSA key exchange is not allowed for this front or not possible with this key.
    #[error("no RSA key exchange for this front and this key")]
    KeyExchange,
    /// The front exceeded its rate for this identity.
    #[error("too many requests for this identity: slow down")]
    Rate,
}

impl Refusal {
    /// Every one; a refusal's code on the wire is its index, counted from 1.
    pub const ALL: [Self; 9] = [
        Self::NotYet,
        Self::UnknownIdentity,
        Self::UnknownKey,
        Self::NotHandshake,
        Self::Role,
        Self::Scheme,
        Self::Failed,
        Self::KeyExchange,
        Self::Rate,
    ];

    /// Its name in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotYet => "not-yet",
            Self::UnknownIdentity => "unknown-identity",
            Self::UnknownKey => "unknown-key",
            Self::NotHandshake => "not-handshake",
            Self::Role => "role",
            Self::Scheme => "scheme",
            Self::Failed => "failed",
            Self::KeyExchange => "key-exchange",
            Self::Rate => "rate",
        }
    }

    pub(crate) fn code(self) -> u8 {
        let index = Self::ALL.iter().position(|refusal| *refusal == self);
        index.and_then(|index| u8::try_from(index + 1).ok()).unwrap_or(0)
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, Malformed> {
        let index = usize::from(code).checked_sub(1).ok_or(Malformed::Value)?;
        Self::ALL.get(index).copied().ok_or(Malformed::Value)
    }
}

impl<'a> Answer<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not an answer.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let answer = match reader.u8()? {
            IDENTITY => Self::Identity(Identity::decode(&mut reader)?),
            WITHDRAWN => Self::Withdrawn { name: reader.name()? },
            SYNCED => Self::Synced,
            SIGNATURE => Self::Signature { call: reader.u32()?, bytes: reader.bytes()? },
            REFUSED => Self::Refused { call: reader.u32()?, reason: Refusal::from_code(reader.u8()?)? },
            SECRET => Self::Secret { call: reader.u32()?, secret: PreMaster(reader.array_ref()?) },
            TICKETS => Self::Tickets(Tickets::decode(&mut reader)?),
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
            Self::Identity(identity) => identity.encode(out),
            Self::Withdrawn { name } => Writer::new(out, ANSWER_MAX, WITHDRAWN).name(name),
            Self::Synced => {
                Writer::new(out, ANSWER_MAX, SYNCED);
                Ok(())
            }
            Self::Signature { call, bytes } => {
                let mut writer = Writer::new(out, ANSWER_MAX, SIGNATURE);
                writer.raw(&call.to_le_bytes())?;
                writer.bytes(bytes)
            }
            Self::Refused { call, reason } => {
                let mut writer = Writer::new(out, ANSWER_MAX, REFUSED);
                writer.raw(&call.to_le_bytes())?;
                writer.raw(&[reason.code()])
            }
            Self::Secret { call, secret } => {
                let mut writer = Writer::new(out, ANSWER_MAX, SECRET);
                writer.raw(&call.to_le_bytes())?;
                writer.raw(secret.0)
            }
            Self::Tickets(tickets) => tickets.encode(out),
        }
    }
}

impl<'a> Tickets<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let (length, number) = (reader.u32()?, reader.u64()?);
        if length == 0 || number == 0 {
            return Err(Malformed::Value);
        }
        let mut key = || reader.array_ref().map(EpochKey);
        Ok(Self { length, number, keys: [key()?, key()?, key()?] })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut writer = Writer::new(out, ANSWER_MAX, TICKETS);
        writer.raw(&self.length.to_le_bytes())?;
        writer.raw(&self.number.to_le_bytes())?;
        self.keys.iter().try_for_each(|key| writer.raw(key.0))
    }
}

impl<'a> Identity<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            name: reader.name()?,
            generation: reader.u64()?,
            key_id: reader.array()?,
            public_key: reader.bytes()?,
            chain: reader.list(Reader::bytes)?,
            staple: reader.bytes()?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut writer = Writer::new(out, ANSWER_MAX, IDENTITY);
        writer.name(self.name)?;
        writer.raw(&self.generation.to_le_bytes())?;
        writer.raw(&self.key_id)?;
        writer.bytes(self.public_key)?;
        writer.list(&self.chain, Writer::bytes)?;
        writer.bytes(self.staple)
    }
}
