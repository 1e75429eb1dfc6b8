//! The parts of a front. Only the code that needs all of them holds this: control connections, and the activation of a
//! configuration.

use crate::{
    accept::Acceptors, authorization::authority::Authority, context::Contexts, control::turns::Turns,
    keeper_client::KeeperLink, parsing::Parsing, runtime::ConnectionRuntime,
};
use std::{io, sync::Arc};

/// The parts of a front.
#[derive(Clone)]
pub(super) struct Services {
    pub(super) authority: Arc<Authority>,
    pub(super) contexts: Arc<Contexts>,
    pub(super) acceptors: Arc<Acceptors>,
    pub(super) runtime: Arc<ConnectionRuntime>,
    pub(super) parsing: Arc<Parsing>,
    pub(super) turns: Arc<Turns>,
}

impl Services {
    /// Starts the threads of a front that uses `cores` cores for its connections.
    ///
    /// # Errors
    /// Returns an error if the kernel supplies no thread or no epoll instance.
    pub(super) fn start(keeper: Arc<KeeperLink>, cores: usize) -> io::Result<Self> {
        let authority = Arc::new(Authority::new());
        let parsing = Arc::new(Parsing::start()?);
        let runtime = Arc::new(ConnectionRuntime::start(cores)?);
        Ok(Self {
            contexts: Arc::new(Contexts::new(Arc::clone(&authority), Arc::clone(&parsing), keeper)),
            acceptors: Arc::new(Acceptors::new(Arc::clone(&authority), Arc::clone(&runtime))),
            authority,
            runtime,
            parsing,
            turns: Arc::default(),
        })
    }
}
