//! The client of luassld without Lua: control connection, contexts, streams, listeners.
//!
//! Everything blocks, with deadlines by poll(2); there is no thread, no async runtime and no OpenSSL here. A program
//! may fork at any time: whatever belongs to one process is made again in the other when it is next needed.
#![deny(unsafe_code)]

mod adopt;
mod certificate;
mod client;
mod context;
mod control;
mod deadline;
mod error;
mod listener;
pub mod lockstep;
mod material;
mod path;
mod pending_connection;
mod stream;
mod tcp;
mod transport;

pub use adopt::{AdoptError, Adopted};
pub use client::Client;
pub use context::{Context, Recipe};
pub use deadline::Timeout;
pub use error::Error;
pub use listener::{AcceptFilter, Accepted, Listener};
pub use material::{Kind, Material, MaterialError};
pub use path::socket_path;
pub use pending_connection::{ConnectOptions, PendingConnection};
pub use stream::{Stream, WriteError};
pub use tcp::{Dialer, Direction};
