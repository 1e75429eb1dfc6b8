//! Frames: a 4-byte big-endian length, followed by one MessagePack value. The length is checked against a
//! limit before memory for the value is allocated.

use crate::{ErrorCode, Failure};
use bytes::{Buf, Bytes, BytesMut};
use rmp_serde::{Deserializer, decode::Error};
use serde::{Deserialize, Serialize};

/// The maximum size of the body of a control frame, in bytes, unless configured otherwise.
pub const MAX_FRAME: usize = 1 << 20;

/// The size of the length before each frame, in bytes.
pub const FRAME_HEADER: usize = 4;

/// The maximum nesting of a body. The messages themselves need five levels; unknown fields may need more.
pub const MAX_DEPTH: usize = 32;

/// The reason why received bytes are not a valid frame or message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The length of the frame is above the limit.
    #[error("a frame of {length} bytes is above the limit of {limit}")]
    TooLarge {
        /// The length in the frame's header.
        length: usize,
        /// The limit that it exceeds.
        limit: usize,
    },
    /// The body is not the expected MessagePack map.
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
    /// A list or a text in the message exceeds its limit.
    #[error("{field} is above its limit of {limit} {unit}")]
    Bound {
        /// The field.
        field: &'static str,
        /// The limit.
        limit: usize,
        /// The unit of the limit: `entries` or `bytes`.
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

/// Removes the body of one frame from the front of `buffer`. Returns `None` if the frame has not arrived
/// completely.
///
/// # Errors
/// Returns [`DecodeError::TooLarge`] as soon as the header contains a length of more than `limit` bytes.
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

/// Encodes one message as a MessagePack map, without the length of a frame (for SOCK_SEQPACKET, which
/// preserves message boundaries).
///
/// # Errors
/// Returns an error if the message cannot be encoded as MessagePack; the types of this crate never fail.
pub fn to_body<T: Serialize>(message: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(message)
}

/// Encodes one message as a frame: a length and a MessagePack map.
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

/// Decodes a body, which is one map without trailing bytes. Unknown fields are ignored, so that a newer peer
/// may send more fields. The allocated memory is bounded by the size of the body: the announced length of a
/// list is not trusted.
///
/// # Errors
/// Returns [`DecodeError`] for a body that is not the map of `T`.
pub fn from_body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    if !body.first().is_some_and(|marker| matches!(marker, 0x80..=0x8f | 0xde | 0xdf)) {
        return Err(DecodeError::NoMap);
    }
    let mut deserializer = Deserializer::from_read_ref(body);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut deserializer)?;
    // This fails to read a marker only at the end of the bytes.
    match <()>::deserialize(&mut deserializer) {
        Err(Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(DecodeError::Trailing),
    }
}
