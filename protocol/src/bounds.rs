//! Limits of fields.

use crate::DecodeError;

/// The maximum length of a text in a [`ContextSpec`](crate::ContextSpec), in bytes.
pub const MAX_TEXT: usize = 4096;

pub(crate) fn check_entries(field: &'static str, entries: usize, limit: usize) -> Result<(), DecodeError> {
    if entries > limit { Err(DecodeError::Bound { field, limit, unit: "entries" }) } else { Ok(()) }
}

pub(crate) fn check_bytes(field: &'static str, length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit { Err(DecodeError::Bound { field, limit, unit: "bytes" }) } else { Ok(()) }
}

pub(crate) fn is_false(value: &bool) -> bool {
    !value
}
