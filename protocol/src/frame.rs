//! Frames: a 4-byte big-endian length, then one MessagePack value. The length is checked against a bound before
//! anything is allocated for it.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// The largest body of a control frame, in bytes, where the configuration says nothing else.
pub const MAX_FRAME: usize = 1 << 20;

/// The bytes of the length that goes before each frame.
pub const FRAME_HEADER: usize = 4;

/// Why bytes from the other side are no frame or no message.
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
/// When the message cannot be written as MessagePack; none of this crate's own types can fail.
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

/// Decodes a body. Unknown fields are ignored, so that a newer side may say more.
///
/// # Errors
/// [`DecodeError::Malformed`] for anything but the map of `T`.
pub fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    Ok(rmp_serde::from_slice(body)?)
}
