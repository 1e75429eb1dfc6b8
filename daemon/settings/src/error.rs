//! Messages that cannot be written or read.

use rustix::io::Errno;

/// Why a message on a front's admin socket cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It makes no sense.
    #[error("malformed message on the admin socket: {0}")]
    Malformed(String),
    /// A part of it is above its bound.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its bound, in bytes.
        limit: u64,
    },
    /// The memory file of the settings cannot be made or read.
    #[error("the settings' memory file failed: {0}")]
    System(#[from] Errno),
}
