//! The messages between a front and the keeper.
//!
//! The keeper identifies a front by the socket of the connection, so no message names the front. [`Request::Subscribe`]
//! requests the public half of every identity of this front. The answers are one [`Answer::Identity`] for each, then
//! [`Answer::Synced`], then each change as it occurs. The keeper sends none of these before its first push. The answers
//! to a second `Subscribe` are the changes that the front does not have yet and [`Answer::Synced`], so it also checks
//! whether the keeper is alive. A front that has subscribed also gets [`Answer::Tickets`], before the first `Synced`
//! and again with each epoch. The answer to [`Request::Sign`] is [`Answer::Signature`], the answer to
//! [`Request::Decrypt`] is [`Answer::Secret`], and the answer to both is [`Answer::Refused`] if the keeper refuses. An
//! answer has the call number of its request, and answers have the order of the requests on that socket.

use crate::wire::{Malformed, Reader, TooLong, Writer};

/// The length of the longest message that a front may have signed, in bytes, except for TLS 1.2 client authentication.
pub const MESSAGE_MAX: usize = 4 << 10;

/// The length of the longest transcript that a front with the client role may have signed, in bytes.
pub const TRANSCRIPT_MAX: usize = 64 << 10;

/// The maximum size of a request without the message to be signed, in bytes.
const REQUEST_HEADER_MAX: usize = 1 + 4 + 32 + 2 + crate::NAME_MAX + 2 + 4;

/// The length of the longest request, in bytes. A receive buffer of this size never truncates a request.
pub const REQUEST_MAX: usize = REQUEST_HEADER_MAX + TRANSCRIPT_MAX;

/// The maximum size of chain, public key and staple of one identity together, in bytes.
pub const PUBLIC_MAX: usize = 64 << 10;

/// The maximum number of certificates in a chain.
pub const CHAIN_MAX: usize = 16;

/// The length of the longest answer, in bytes. A receive buffer of this size never truncates an answer.
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

/// A request from a front to the keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Requests all identities and every change to them.
    Subscribe,
    /// Requests a signature.
    Sign(Sign<'a>),
    /// Requests the pre-master secret of TLS 1.2's RSA key exchange.
    Decrypt(Decrypt<'a>),
}

/// A request for a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign<'a> {
    /// The call number. The answer has the same number.
    pub call: u32,
    /// SHA-256 of the DER SubjectPublicKeyInfo, which selects the generation of the identity.
    pub key_id: [u8; 32],
    /// The name of the identity.
    pub name: &'a str,
    /// The TLS SignatureScheme (RFC 8446, 4.2.3).
    pub scheme: u16,
    /// The whole message to be signed, not a digest.
    pub message: &'a [u8],
}

/// The length of a pre-master secret, in bytes (RFC 5246, 8.1.1). Every answer to [`Request::Decrypt`] has this length.
pub const PRE_MASTER: usize = 48;

/// A request for a pre-master secret (RFC 5246, 7.4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decrypt<'a> {
    /// The call number. The answer has the same number.
    pub call: u32,
    /// SHA-256 of the DER SubjectPublicKeyInfo, which selects the generation of the identity.
    pub key_id: [u8; 32],
    /// The name of the identity.
    pub name: &'a str,
    /// The version that the ClientHello offered. The secret must begin with it.
    pub version: u16,
    /// The EncryptedPreMasterSecret, which is as long as the modulus.
    pub ciphertext: &'a [u8],
}

impl<'a> Request<'a> {
    /// Decodes one datagram.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not a request.
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

    /// Writes the datagram into `out`, and replaces the former content.
    ///
    /// # Errors
    /// [`TooLong`] if the datagram would be longer than [`REQUEST_MAX`] or the name is not valid.
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

/// An answer from the keeper to a front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    /// An identity that this front has, or a new generation of one.
    Identity(Identity<'a>),
    /// An identity that this front no longer has.
    Withdrawn {
        /// Its name.
        name: &'a str,
    },
    /// Every current identity has been sent.
    Synced,
    /// A signature, in the form of the handshake message.
    Signature {
        /// The call number of the request.
        call: u32,
        /// DER for ECDSA, else raw bytes.
        bytes: &'a [u8],
    },
    /// A pre-master secret, or replacement bytes that depend on key, version and ciphertext. The front cannot
    /// distinguish the two.
    Secret {
        /// The call number of the request.
        call: u32,
        /// The secret. Wipe every copy.
        secret: PreMaster<'a>,
    },
    /// The refusal of a signature or a secret.
    Refused {
        /// The call number of the request.
        call: u32,
        /// The reason of the refusal.
        reason: Refusal,
    },
    /// The keys that seal session tickets.
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

/// The ticket keys of three consecutive epochs. An epoch has `length` seconds of the clock, and epochs are numbered
/// from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tickets<'a> {
    /// The length of an epoch, in seconds; never 0.
    pub length: u32,
    /// The number of the epoch of the second key; never 0.
    pub number: u64,
    /// The keys of the previous, the current and the next epoch.
    pub keys: [EpochKey<'a>; 3],
}

/// The key of one epoch, from which a front derives the keys of its contexts.
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
    /// The number of the generation. It increases with each change, from 1, during the life of the keeper.
    pub generation: u64,
    /// SHA-256 of `public_key`.
    pub key_id: [u8; 32],
    /// DER SubjectPublicKeyInfo.
    pub public_key: &'a [u8],
    /// Certificates that the keeper has not parsed: the one with the public key first, the others in the order of the
    /// file. Empty for a bare key.
    pub chain: Vec<&'a [u8]>,
    /// The OCSP response in DER. Empty if there is none.
    pub staple: &'a [u8],
}

/// The reason why the keeper does not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The keeper has had no push since its start. The front can ask again.
    #[error("the keeper has not been given its keys yet")]
    NotYet,
    /// The front has no such identity.
    #[error("no such identity")]
    UnknownIdentity,
    /// The identity has no key with this id, or no longer has one.
    #[error("the identity has no such key any more")]
    UnknownKey,
    /// The message is not a handshake message that a TLS peer signs.
    #[error("not a handshake message")]
    NotHandshake,
    /// The handshake message belongs to a role that this front does not have.
    #[error("this front does not have this role")]
    Role,
    /// The scheme does not fit the key, or the protocol version of the message.
    #[error("the signature scheme does not fit")]
    Scheme,
    /// libcrypto could not sign.
    #[error("signing failed")]
    Failed,
    /// RSA key exchange is not allowed for this front, or not possible with this key.
    #[error("no RSA key exchange for this front and this key")]
    KeyExchange,
    /// The front exceeded its rate for this identity.
    #[error("too many requests for this identity: slow down")]
    Rate,
}

impl Refusal {
    /// All refusals. The code of a refusal on the wire is its index, counted from 1.
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

    /// Returns the name of the refusal in the audit log.
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
    /// Decodes one datagram.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not an answer.
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

    /// Writes the datagram into `out`, and replaces the former content.
    ///
    /// # Errors
    /// [`TooLong`] if the datagram would be longer than [`ANSWER_MAX`].
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
