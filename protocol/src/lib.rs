//! What Lua programs and luassld say to each other: frames, messages, codes and the constants of the API.
//!
//! Nothing here does I/O, reads a clock or knows of OpenSSL. `PROTOCOL.md` beside this crate is the
//! specification; its vectors are this crate's tests.
#![forbid(unsafe_code)]

mod constants;
mod context;
mod error;
mod frame;
mod message;
mod stream;

pub use constants::*;
pub use context::*;
pub use error::*;
pub use frame::*;
pub use message::*;
pub use stream::*;

/// The version of the protocol that this crate speaks; `hello` carries it both ways.
pub const VERSION: u32 = 1;
