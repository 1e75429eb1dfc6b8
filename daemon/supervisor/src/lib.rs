//! The supervisor. It reads the configuration, opens the files, starts the keeper and the fronts, and passes
//! them their files and settings.
//!
//! It does not read keys and does not read from the network. `luasslctl` does the supervisor's part if
//! systemd starts the processes.
#![deny(unsafe_code)]

pub mod check;
pub mod config;
pub mod ctl;
pub mod push;
pub mod run;
