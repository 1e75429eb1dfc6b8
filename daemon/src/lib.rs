//! What the programs `luassld` and `luasslctl` share: their command lines and their log.

pub mod cli;
pub mod listen_fds;
pub mod logging;
