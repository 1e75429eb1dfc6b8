//! luassld as a library: the front (control sockets, grants, contexts, connections) and the supervisor.

mod chain;
pub mod check;
pub mod cli;
pub mod config;
pub mod ctl;
pub mod front;
pub mod identity;
pub mod keeper;
pub mod listen_fds;
pub mod logging;
pub mod push;
pub mod supervisor;
pub mod tls;
