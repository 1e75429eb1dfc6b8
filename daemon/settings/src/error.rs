//! Errors of writing and reading messages.

use rustix::io::Errno;

/// The reason why a message on a front's admin socket cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The message is malformed.
    #[error("malformed message on the admin socket: {0}")]
    Malformed(String),
    /// A part of the message exceeds its limit.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its limit, in bytes.
        limit: u64,
    },
    /// The memory file of the settings cannot be created or read.
    #[error("the settings' memory file failed: {0}")]
    System(#[from] Errno),
}
