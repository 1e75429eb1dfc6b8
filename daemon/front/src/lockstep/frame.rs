//! Frames of lock-step connections.

use luassl_protocol::{FRAME_HEADER, MAX_LOCK_STEP_FRAME};

/// Returns the body of the frame that `bytes` begin with; `None` if the frame is incomplete.
///
/// # Errors
/// Returns an error if the frame exceeds the limit.
pub(super) fn whole(bytes: &[u8]) -> Result<Option<&[u8]>, ()> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes(*header) as usize;
    if length > MAX_LOCK_STEP_FRAME {
        return Err(());
    }
    Ok(bytes.get(FRAME_HEADER..FRAME_HEADER + length))
}
