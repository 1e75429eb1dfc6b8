//! The runtime of established connections: the threads that run them, and the table that contains them.

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
    /// The threads that pump. They never wait for the keeper.
    pub(crate) pumps: Workers,
    /// The threads that may wait for the keeper, for handshakes and for other operations that sign.
    pub(crate) handshake_workers: Workers,
    pub(crate) connections: Connections,
}

impl ConnectionRuntime {
    /// Starts as many threads of each kind as there are cores, and at least two threads that may sign.
    ///
    /// # Errors
    /// Returns an error if the kernel supplies no thread or no epoll instance.
    pub(crate) fn start(cores: usize) -> io::Result<Self> {
        Ok(Self {
            pumps: Workers::start("pump", cores, false)?,
            handshake_workers: Workers::start("handshake", cores.max(2), true)?,
            connections: Connections::default(),
        })
    }
}
