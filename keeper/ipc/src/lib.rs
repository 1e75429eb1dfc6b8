//! The fixed-layout messages of the key process, and their transport.
//!
//! Each message is one datagram of an AF_UNIX SOCK_SEQPACKET socket. It consists of a byte that identifies the message,
//! then its fields in a fixed order: integers are little-endian, byte strings follow their length, and no bytes follow
//! the last field. There is no self-describing format on purpose: the keeper holds keys, and code that reads bytes from
//! a process that reads the network must be small enough to be reviewed completely. Decoders check every length against
//! the remaining bytes before they use it, allocate nothing of a size that the sender chooses, and never panic.
//!
//! [`front`] contains the messages between fronts and keeper, and [`admin`] the messages between supervisor and keeper.
//! [`transport`] sends and receives datagrams with descriptors (also for the front's admin socket). [`sd_notify`]
//! reports the state of keeper or front to the process that started it. [`audit`] is the format in which both log uses
//! and refusals.

#![forbid(unsafe_code)]

mod account;
pub mod admin;
pub mod audit;
pub mod front;
pub mod sd_notify;
pub mod transport;
mod wire;

pub use wire::{Malformed, NAME_MAX, TooLong};
