//! Frames: a 4-byte big-endian length, then one MessagePack value. The length is checked against a bound before
//! anything is allocated for it.

use crate::{ErrorCode, Failure};
use bytes::{Buf, Bytes, BytesMut};
use rmp_serde::{Deserializer, decode::Error};
use serde::{Deserialize, Serialize};

/// The largest body of a control frame, in bytes, unless configured otherwise.
pub const MAX_FRAME: usize = 1 << 20;

/// The bytes of the length that goes before each frame.
pub const FRAME_HEADER: usize = 4;

/// The deepest nesting of a body. The messages themselves need five levels; unknown fields may need more.
pub const MAX_DEPTH: usize = 32;

/// Why received bytes are not a valid frame or message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The length in front of the frame is above the bound.
    #[error("a frame of {length} bytes is above the limit of {limit}")]
    TooLarge {
        /// The length that the frame announced.
        length: usize,
        /// The bound that it broke.
        limit: usize,
    },
    /// The body is not the MessagePack map that was expected.
    #[error("malformed message: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// The body is a MessagePack value, but not a map.
    #[error("malformed message: not a MessagePack map")]
    NoMap,
    /// Bytes follow the map of the body.
    #[error("malformed message: trailing bytes after the map")]
    Trailing,
    /// A required field is missing.
    #[error("malformed message: {operation} needs the field {field}")]
    Missing {
        /// The operation.
        operation: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A blob contains a private key. Clients must never send one.
    #[error("the data contains a private key: send only certificates and parameters")]
    PrivateKey,
    /// A list or a text in the message is longer than it may be.
    #[error("{field} is above its limit of {limit} {unit}")]
    Bound {
        /// The field.
        field: &'static str,
        /// How much it may hold.
        limit: usize,
        /// What the limit counts: `entries` or `bytes`.
        unit: &'static str,
    },
}

impl From<&DecodeError> for Failure {
    fn from(error: &DecodeError) -> Self {
        let code = match error {
            DecodeError::TooLarge { .. } | DecodeError::Bound { .. } => ErrorCode::TooLarge,
            DecodeError::PrivateKey => ErrorCode::Invalid,
            DecodeError::Malformed(_)
            | DecodeError::NoMap
            | DecodeError::Trailing
            | DecodeError::Missing { .. } => ErrorCode::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

/// Takes one frame's body from the front of `buffer`, or `None` until it has arrived whole.
///
/// # Errors
/// [`DecodeError::TooLarge`] as soon as the header announces more than `limit` bytes.
pub fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, DecodeError> {
    let Some(header) = buffer.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if length > limit {
        return Err(DecodeError::TooLarge { length, limit });
    }
    if buffer.len() < FRAME_HEADER + length {
        return Ok(None);
    }
    buffer.advance(FRAME_HEADER);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Encodes one message as a MessagePack map, without a frame's length (for SOCK_SEQPACKET, which keeps bounds).
///
/// # Errors
/// When the message cannot be written as MessagePack; the types of this crate never fail.
pub fn to_body<T: Serialize>(message: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(message)
}

/// Encodes one message as a frame: length and MessagePack map.
///
/// # Errors
/// As [`to_body`].
pub fn to_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut frame = vec![0; FRAME_HEADER];
    rmp_serde::encode::write_named(&mut frame, message)?;
    let length = u32::try_from(frame.len() - FRAME_HEADER).unwrap_or(u32::MAX);
    frame[..FRAME_HEADER].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Decodes a body, which is one map and nothing after it. Unknown fields are ignored, so that a newer side may say
/// more. What it allocates is bounded by the body's own size: a list's announced length is not believed.
///
/// # Errors
/// [`DecodeError`] for anything but the map of `T`.
pub fn from_body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    if !body.first().is_some_and(|marker| matches!(marker, 0x80..=0x8f | 0xde | 0xdf)) {
        return Err(DecodeError::NoMap);
    }
    let mut deserializer = Deserializer::from_read_ref(body);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut deserializer)?;
    // Only at the end of the bytes is there no marker to read.
    match <()>::deserialize(&mut deserializer) {
        Err(Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(DecodeError::Trailing),
    }
}
