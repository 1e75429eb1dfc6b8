//! The client against a front that does what each test says: no TLS, no daemon.
#![allow(clippy::unwrap_used, reason = "clippy sees only functions marked as tests as such")]

mod context;
mod control;
mod front;
mod listener;
mod stream;
