//! The supervisor: it reads the configuration, opens the files, starts keeper and fronts, and hands them what they need.
//!
//! It reads no byte of a key, and none from the network. `luasslctl` does its part where systemd starts the processes.
#![deny(unsafe_code)]

pub mod check;
pub mod config;
pub mod ctl;
pub mod push;
pub mod run;
