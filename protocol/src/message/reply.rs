//! Answers on the control socket.

use crate::{DecodeError, Failure, from_body, to_frame};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Deserialize)]
struct ReplyHead {
    id: u64,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Serialize)]
struct OutgoingReply<'a, T> {
    id: u64,
    #[serde(flatten)]
    fields: &'a T,
}

#[derive(Serialize)]
struct OutgoingError<'a> {
    id: u64,
    error: &'a Failure,
}

/// Encodes the answer to request `id` as a frame.
///
/// # Errors
/// As [`crate::to_body`].
pub fn reply_frame<T: Serialize>(
    id: u64,
    outcome: &Result<T, Failure>,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    match outcome {
        Ok(fields) => to_frame(&OutgoingReply { id, fields }),
        Err(error) => to_frame(&OutgoingError { id, error }),
    }
}

/// Decodes an answer. Returns the id of its request, and the answer or the failure.
///
/// # Errors
/// Returns [`DecodeError::Malformed`] if the body is neither.
pub fn decode_reply<T: DeserializeOwned>(body: &[u8]) -> Result<(u64, Result<T, Failure>), DecodeError> {
    let head: ReplyHead = from_body(body)?;
    match head.error {
        Some(failure) => Ok((head.id, Err(failure))),
        None => Ok((head.id, Ok(from_body(body)?))),
    }
}

/// Decodes only the id of an answer, to find the request that it belongs to.
///
/// # Errors
/// Returns [`DecodeError::Malformed`] if there is no id.
pub fn reply_id(body: &[u8]) -> Result<u64, DecodeError> {
    Ok(from_body::<ReplyHead>(body)?.id)
}
