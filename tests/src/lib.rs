//! What the whole-system tests are made with: the daemon, Lua programs, peers, a development PKI, and the key
//! scanner.
//!
//! Everything that a value of this crate starts, it ends when it is dropped: by process id, within a bounded time.

pub mod memory;
pub mod needles;
