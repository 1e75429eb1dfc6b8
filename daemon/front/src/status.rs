//! The status of a front. It answers status requests on its admin socket, and under `luassld run` on a socket for this
//! purpose only.

use crate::{
    authorization::{authority::Authority, credentials, owner::Owner, quota::Kind},
    runtime::{ConnectionRuntime, connection::Stage, readiness},
};
use luassl_keeper_ipc::transport::{self, RecvError};
use luassl_settings::{Open, StatusRequest};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with},
};
use std::{collections::BTreeMap, io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// The number of connections that may send requests at a time. Further ones wait to be accepted.
const MAX_ASKING: usize = 8;
/// The maximum duration of one such connection.
const DEADLINE: Duration = Duration::from_secs(10);
/// The maximum size of a request, in bytes.
const MAX_QUESTION: usize = 512;
/// The pause after accepting has failed.
const BACK_OFF: Duration = Duration::from_millis(50);

/// The parts that supply the answer.
type Parts = (Arc<Authority>, Arc<ConnectionRuntime>);

/// Serves the socket for the status. Returns only after an error.
pub(super) async fn serve(authority: Arc<Authority>, runtime: Arc<ConnectionRuntime>, listening: OwnedFd) {
    if let Err(error) = accept_all((authority, runtime), listening).await {
        tracing::error!("the socket for the status is out of service: {error}");
    }
}

async fn accept_all(parts: Parts, listening: OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&listening, true)?;
    let listening = readiness::register(listening)?;
    let places = Arc::new(Semaphore::new(MAX_ASKING));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let mut guard = listening.readable().await?;
        match accept_with(listening.get_ref(), SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let (authority, runtime) = parts.clone();
                tokio::spawn(async move {
                    if let Ok(Err(error)) = timeout(DEADLINE, converse(&authority, &runtime, socket)).await {
                        tracing::warn!("a question for the status was not answered: {error}");
                    }
                    drop(place);
                });
            }
            Err(Errno::WOULDBLOCK) => guard.clear_ready(),
            Err(error) => {
                tracing::warn!("accept on the socket for the status failed: {error}");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn converse(authority: &Authority, runtime: &ConnectionRuntime, socket: OwnedFd) -> io::Result<()> {
    credentials::check_supervisor(&socket)?;
    let socket = readiness::register(socket)?;
    let mut question = [0; MAX_QUESTION];
    loop {
        let mut guard = socket.readable().await?;
        match transport::recv(socket.get_ref(), &mut question, 0, RecvFlags::DONTWAIT) {
            Ok(received) if received.len == 0 => return Ok(()),
            Ok(received) => {
                let reply = answer(authority, runtime, &question[..received.len]);
                let reply = reply.ok_or_else(|| io::Error::other("it is none of this version"))?;
                transport::send(socket.get_ref(), &reply, &[], SendFlags::DONTWAIT)?;
            }
            Err(RecvError::System(Errno::WOULDBLOCK)) => guard.clear_ready(),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
}

/// Returns the answer; `None` if `message` is not a status request.
pub(super) fn answer(authority: &Authority, runtime: &ConnectionRuntime, message: &[u8]) -> Option<Vec<u8>> {
    StatusRequest::decode(message)
        .map(|request| request.answer(authority.counters.status(open(authority, runtime))))
}

/// Returns what each owner has open.
fn open(authority: &Authority, runtime: &ConnectionRuntime) -> BTreeMap<Owner, Open> {
    let mut owners: BTreeMap<Owner, Open> = BTreeMap::new();
    for connection in runtime.connections.all() {
        let open = owners.entry(connection.owner.clone()).or_default();
        match connection.stage() {
            // These are counted by the held parts of quotas.
            Stage::Early => {}
            Stage::Stream if connection.server => open.server += 1,
            Stage::Stream => open.client += 1,
            Stage::LockStep => open.lock_step += 1,
        }
    }
    for (owner, count) in authority.quotas.held(Kind::Handshakes) {
        owners.entry(owner).or_default().handshaking = count;
    }
    for (owner, count) in authority.quotas.held(Kind::Undelivered) {
        owners.entry(owner).or_default().undelivered = count;
    }
    owners.retain(|_, open| *open != Open::default());
    owners
}
