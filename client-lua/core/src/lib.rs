//! The client of luassld without Lua: control connection, contexts, streams, listeners.
//!
//! Operations block, with deadlines by poll(2). The crate has no threads, no async runtime and no OpenSSL. A
//! program may fork at any time: the resources of one process are recreated in the other on their next use.
#![deny(unsafe_code)]

mod certificate;
mod client;
mod connection;
mod context;
mod control;
mod deadline;
mod error;
pub mod lockstep;
mod material;
mod path;
mod transport;

pub use client::Client;
pub use connection::adopt::{AdoptError, Adopted};
pub use connection::listener::{AcceptFilter, Accepted, Listener};
pub use connection::pending_connection::{ConnectOptions, PendingConnection};
pub use connection::stream::{Stream, WriteError};
pub use connection::tcp::{Dialer, Direction};
pub use context::{Context, ContextRequest};
pub use deadline::Timeout;
pub use error::Error;
pub use material::{Kind, Material, MaterialError};
pub use path::socket_path;
