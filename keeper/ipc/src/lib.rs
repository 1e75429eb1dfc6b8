//! Fixed-layout messages of the key process, and the way they travel.
//!
//! Each message is one datagram of an AF_UNIX SOCK_SEQPACKET socket: a byte that says which message it is, then its
//! fields in a fixed order, integers little-endian, byte strings behind their length, and nothing after the last
//! field. There is no self-describing format here on purpose: the keeper holds keys, and what reads bytes from a
//! process that reads the network must be small enough to be read whole. Decoders check every length against what is
//! there before they use it, allocate nothing that a sender chose the size of, and never panic.
//!
//! [`front`] is what fronts and keeper say to each other, [`admin`] what supervisor and keeper do, [`transport`]
//! sends and receives datagrams with descriptors (for the front's admin socket, too), [`sd_notify`] tells whoever started
//! keeper or front how it is, [`audit`] is the format of what both log of uses and refusals.

#![forbid(unsafe_code)]

mod account;
pub mod admin;
pub mod audit;
pub mod front;
pub mod sd_notify;
pub mod transport;
mod wire;

pub use wire::{Malformed, NAME_MAX, TooLong};
