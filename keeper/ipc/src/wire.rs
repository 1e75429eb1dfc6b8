//! Reading and writing of fields. Every read is checked against the remaining bytes, and every write against the limit
//! of the field.

/// The length of the longest name of an identity or a front, in bytes.
pub const NAME_MAX: usize = 255;

/// The reason why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field extends beyond the end.
    #[error("the message ends inside a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("the message has bytes after its last field")]
    Trailing,
    /// No message in this direction has this kind.
    #[error("no message has kind {0:#04x}")]
    Kind(u8),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A name is empty or longer than [`NAME_MAX`].
    #[error("a name is empty or longer than {NAME_MAX} bytes")]
    Name,
    /// A field has an invalid value.
    #[error("a field has an unknown value")]
    Value,
}

/// A field or the whole message is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message or a field of it is too long")]
pub struct TooLong;

/// Reads fields from the start of a datagram.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (field, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.array_ref().copied()
    }

    /// Reads like [`Reader::array`], without a copy.
    pub(crate) fn array_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a byte that is 0 or 1.
    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Value),
        }
    }

    /// Reads a byte string after a 32-bit length.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed::Truncated)?;
        self.take(len)
    }

    /// Reads UTF-8 text after a 16-bit length.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u16()?;
        str::from_utf8(self.take(usize::from(len))?).map_err(|_| Malformed::Text)
    }

    /// Reads the name of an identity or a front.
    pub(crate) fn name(&mut self) -> Result<&'a str, Malformed> {
        let name = self.text()?;
        if is_name(name) { Ok(name) } else { Err(Malformed::Name) }
    }

    /// Reads items after a 16-bit count. Allocates nothing for the count, because the sender chooses it.
    pub(crate) fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u16()?;
        (0..count).map(|_| item(self)).collect()
    }

    /// Requires that every byte was read.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
}

/// Appends fields to the sender's buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    max: usize,
}

impl<'a> Writer<'a> {
    /// Starts a message of at most `max` bytes, and discards the former content of the buffer.
    pub(crate) fn new(out: &'a mut Vec<u8>, max: usize, kind: u8) -> Self {
        out.clear();
        out.push(kind);
        Self { out, max }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if bytes.len() > self.max.saturating_sub(self.out.len()) {
            return Err(TooLong);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let len = u32::try_from(bytes.len()).map_err(|_| TooLong)?;
        self.raw(&len.to_le_bytes())?;
        self.raw(bytes)
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<(), TooLong> {
        let len = u16::try_from(text.len()).map_err(|_| TooLong)?;
        self.raw(&len.to_le_bytes())?;
        self.raw(text.as_bytes())
    }

    pub(crate) fn name(&mut self, name: &str) -> Result<(), TooLong> {
        if is_name(name) { self.text(name) } else { Err(TooLong) }
    }

    pub(crate) fn list<T: Copy>(
        &mut self,
        items: &[T],
        item: impl Fn(&mut Self, T) -> Result<(), TooLong>,
    ) -> Result<(), TooLong> {
        let count = u16::try_from(items.len()).map_err(|_| TooLong)?;
        self.raw(&count.to_le_bytes())?;
        items.iter().try_for_each(|value| item(self, *value))
    }
}
