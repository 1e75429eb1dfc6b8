//! Fields of TLS structures. Integers are big-endian, and vectors follow their length.

/// The bytes end inside a field, or a field has an invalid value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut;

impl Cut {
    pub(crate) fn ensure(good: bool) -> Result<(), Self> {
        if good { Ok(()) } else { Err(Self) }
    }
}

/// Reads fields from the start of a byte slice.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Cut> {
        let (field, rest) = self.rest.split_at_checked(len).ok_or(Cut)?;
        self.rest = rest;
        Ok(field)
    }

    fn number<const N: usize>(&mut self) -> Result<usize, Cut> {
        Ok(self.take(N)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Cut> {
        self.take(1).map(|byte| byte[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Cut> {
        let (number, rest) = self.rest.split_first_chunk().ok_or(Cut)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*number))
    }

    pub(crate) fn vector_u16(&mut self) -> Result<&'a [u8], Cut> {
        let len = self.number::<2>()?;
        self.take(len)
    }

    pub(crate) fn vector_u24(&mut self) -> Result<&'a [u8], Cut> {
        let len = self.number::<3>()?;
        self.take(len)
    }
}
