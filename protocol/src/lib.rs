//! The protocol between Lua programs and luassld: frames, messages, codes and the constants of the API.
//!
//! This crate does no I/O, reads no clock and does not depend on OpenSSL. `PROTOCOL.md` beside this crate is
//! the specification; its vectors are this crate's tests.
#![forbid(unsafe_code)]

mod bounds;
mod constants;
mod error;
mod frame;
mod message;
mod pem;
mod secret;
mod spin;

pub use bounds::MAX_TEXT;
pub use constants::*;
pub use error::*;
pub use frame::*;
pub use message::certificate::*;
pub use message::connection::*;
pub use message::context::*;
pub use message::dane::*;
pub use message::hello::*;
pub use message::lockstep::*;
pub use message::material::*;
pub use message::reply::*;
pub use message::stream::*;
pub use message::*;
pub use pem::*;
pub use secret::*;
pub use spin::{MAX_SPIN_DATA, SPIN_TIME, SpinBudget};

/// The version of the protocol that this crate implements. Both sides send it in `hello`.
pub const VERSION: u32 = 1;

/// Names in `features` of `hello`.
pub mod feature {
    /// Connections in stream mode.
    pub const STREAM: &str = "stream";
    /// Connections in lock-step mode.
    pub const LOCK_STEP: &str = "lock_step";
    /// Lock-step handshakes that stop at the ClientHello and query the client.
    pub const CLIENT_HELLO: &str = "client_hello";
    /// Pre-shared keys.
    pub const PSK: &str = "psk";
    /// Verification by TLSA records.
    pub const DANE: &str = "dane";
    /// All features.
    pub const ALL: [&str; 5] = [STREAM, LOCK_STEP, CLIENT_HELLO, PSK, DANE];
}
