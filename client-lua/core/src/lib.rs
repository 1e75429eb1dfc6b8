//! The client of luassld without Lua: control connection, contexts, streams, listeners.
//!
//! Operations block, with deadlines by poll(2). The crate has no threads, no async runtime and no OpenSSL. A program may
//! fork at any time: resources of one process are created again in the other when they are next needed.
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
pub use context::{Context, ContextRequest};
pub use deadline::Timeout;
pub use error::Error;
pub use listener::{AcceptFilter, Accepted, Listener};
pub use material::{Kind, Material, MaterialError};
pub use path::socket_path;
pub use pending_connection::{ConnectOptions, PendingConnection};
pub use stream::{Stream, WriteError};
pub use tcp::{Dialer, Direction};
