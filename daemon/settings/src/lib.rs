//! What a front is told and asked over its admin socket, and how that is encoded: the supervisor writes it, the front reads
//! it.
//!
//! Nothing here opens a file, or sends and receives: the supervisor and the front do that.
#![forbid(unsafe_code)]

mod log;
mod push;
mod settings;
mod status;
mod text;

pub use log::{AUDIT, Log, LogFormat, UnknownLogFormat};
pub use push::{MAX_DESCRIPTORS, MAX_MESSAGE, Push, PushReply, encode_push, receive_settings};
pub use settings::{Grant, Grantee, IdentitySettings, Limits, NameIndex, Settings, TrustSettings};
pub use status::{MAX_ROWS, NO_GRANT, Open, OwnerStatus, StatusReply, StatusRequest};
pub use text::{OneLine, is_plain};

use rustix::io::Errno;

/// The name in LISTEN_FDNAMES of the keeper's socket as a file (O_PATH), for a front whose user cannot reach its path.
pub const KEEPER_FILE: &str = "keeper";

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
