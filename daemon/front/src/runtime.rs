//! Where established connections live: the threads that have them, and the table by which they are found.

use super::{connection::Connections, workers::Workers};
use std::io;

/// The threads and the table of a front's connections.
pub(super) struct ConnectionRuntime {
    /// Threads that pump, and never wait for the keeper.
    pub(super) pumps: Workers,
    /// Threads that may: handshakes, and whatever else signs.
    pub(super) handshake_workers: Workers,
    pub(super) connections: Connections,
}

impl ConnectionRuntime {
    /// Starts as many threads of each kind as there are cores, and two at least that may sign.
    ///
    /// # Errors
    /// When the kernel gives no thread or no epoll instance.
    pub(super) fn start(cores: usize) -> io::Result<Self> {
        Ok(Self {
            pumps: Workers::start("pump", cores, false)?,
            handshake_workers: Workers::start("handshake", cores.max(2), true)?,
            connections: Connections::default(),
        })
    }
}
