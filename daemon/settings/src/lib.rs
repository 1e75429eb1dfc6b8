//! What a front is told and asked over its admin socket, and how that is encoded: the supervisor writes it, the front reads
//! it.
//!
//! Nothing here opens a file, or sends and receives: the supervisor and the front do that.
#![forbid(unsafe_code)]

mod error;
mod limits;
mod log;
mod push;
mod settings;
mod status;
mod text;

pub use error::MessageError;
pub use limits::{Limit, LimitKind, Limits};
pub use log::{AUDIT, Log, LogFormat, UnknownLogFormat};
pub use push::{MAX_DESCRIPTORS, MAX_MESSAGE, Push, PushReply, encode_push, receive_settings};
pub use settings::{Grant, Grantee, IdentitySettings, Settings, TrustSettings};
pub use status::{MAX_ROWS, NO_GRANT, Open, OwnerStatus, StatusReply, StatusRequest};
pub use text::{OneLine, is_plain};

/// The name in LISTEN_FDNAMES of the keeper's socket as a file (O_PATH), for a front whose user cannot reach its path.
pub const KEEPER_FILE: &str = "keeper";
