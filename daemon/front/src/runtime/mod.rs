//! Where established connections live: the threads that have them, and the table by which they are found.

pub(crate) mod closing;
pub(crate) mod connection;
pub(crate) mod interrupt;
pub(crate) mod readiness;
pub(crate) mod sockets;
pub(crate) mod tcp;
pub(crate) mod workers;
use crate::runtime::{connection::Connections, workers::Workers};
use std::io;

/// The threads and the table of a front's connections.
pub(crate) struct ConnectionRuntime {
    /// Threads that pump, and never wait for the keeper.
    pub(crate) pumps: Workers,
    /// Threads that may: handshakes, and whatever else signs.
    pub(crate) handshake_workers: Workers,
    pub(crate) connections: Connections,
}

impl ConnectionRuntime {
    /// Starts as many threads of each kind as there are cores, and two at least that may sign.
    ///
    /// # Errors
    /// When the kernel gives no thread or no epoll instance.
    pub(crate) fn start(cores: usize) -> io::Result<Self> {
        Ok(Self {
            pumps: Workers::start("pump", cores, false)?,
            handshake_workers: Workers::start("handshake", cores.max(2), true)?,
            connections: Connections::default(),
        })
    }
}
