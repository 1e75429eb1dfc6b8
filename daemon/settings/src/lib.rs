//! The messages between the supervisor and a front over its admin socket, and their encoding: settings, and
//! status queries. The supervisor writes settings, and the front reads them.
//!
//! This crate does not open files, and does not send or receive. The supervisor and the front do that.
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

/// The name in LISTEN_FDNAMES of the keeper's socket as a file (O_PATH). It is for a front whose user cannot
/// access the socket's path.
pub const KEEPER_FILE: &str = "keeper";
