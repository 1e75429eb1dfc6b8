//! The rate limits of a front at the keeper, and its counters.

use crate::front::Refusal;
use crate::wire::{Malformed, Reader, TooLong, Writer};

/// The number of requests for signatures and for pre-master secrets that a front may make in one second. Further
/// requests are refused until tokens are available again, at the given rate per second. A bucket holds the tokens of
/// one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// The rate for one identity.
    pub identity: u32,
    /// The rate for the whole front, including refused requests.
    pub front: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { identity: 5_000, front: 10_000 }
    }
}

impl Rates {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { identity: reader.u32()?, front: reader.u32()? })
    }

    pub(crate) fn encode(self, mut writer: Writer<'_>) -> Result<(), TooLong> {
        writer.raw(&self.identity.to_le_bytes())?;
        writer.raw(&self.front.to_le_bytes())
    }
}

/// The counters of a front and one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count<'a> {
    /// The front's name.
    pub front: &'a str,
    /// The identity's name; `*` for all names that the front does not reach.
    pub identity: &'a str,
    /// The number of signatures.
    pub signed: u64,
    /// The number of pre-master secrets.
    pub decrypted: u64,
    /// The number of refused requests by reason, for the reasons that occurred.
    pub refused: Vec<(Refusal, u64)>,
}

impl<'a> Count<'a> {
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let refused = |reader: &mut Reader<'a>| Ok((Refusal::from_code(reader.u8()?)?, reader.u64()?));
        Ok(Self {
            front: reader.name()?,
            identity: reader.name()?,
            signed: reader.u64()?,
            decrypted: reader.u64()?,
            refused: reader.list(refused)?,
        })
    }

    pub(crate) fn encode(&self, mut writer: Writer<'_>) -> Result<(), TooLong> {
        writer.name(self.front)?;
        writer.name(self.identity)?;
        writer.raw(&self.signed.to_le_bytes())?;
        writer.raw(&self.decrypted.to_le_bytes())?;
        writer.list(&self.refused, |writer, (reason, count)| {
            writer.raw(&[reason.code()])?;
            writer.raw(&count.to_le_bytes())
        })
    }
}
