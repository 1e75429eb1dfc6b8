//! Control connections: frames in, answers out, and descriptors with the frames that they arrived with.

mod channel;
mod connections;
mod contexts;
pub(crate) mod descriptors;
mod questions;
mod reply;
mod session;
#[cfg(test)]
mod tests;
pub(crate) mod turns;

use crate::{
    authorization::{
        credentials,
        owner::Owner,
        principal::Principal,
        quota::{Bound, Kind, QuotaGuard},
    },
    runtime::{readiness, sockets::ClientSocket},
    services::Services,
};
use channel::{Channel, POLL};
use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with},
};
use session::Session;
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

/// The number of clients' descriptors, and of sockets that contain such descriptors, that may wait to be closed before
/// no new control connection is accepted from any owner. Connections of an owner with [too
/// many](crate::authorization::quota::MAX_UNCLOSED) are reset long before. A reset connection that contains a
/// descriptor counts as one. The kernel closes it at once, except for files whose close waits for their server (writes
/// of a FUSE file system that are not done).
const MAX_UNCLOSED_IN_ALL: u64 = 16_384;

/// The number of control connections that are accepted before the existing sockets are checked again.
const ACCEPTS_AT_A_TIME: usize = 16;

/// Accepts control connections and never returns without an error. `name` is the name of the named control socket, or
/// `control`. Before the first push clients wait in the socket's backlog, which the kernel limits, because no limit of
/// the front is known yet.
pub(super) async fn serve(services: Services, name: Arc<str>, listening: OwnedFd) -> io::Result<()> {
    services.authority.ready().await;
    rustix::io::ioctl_fionbio(&listening, true)?;
    let listening = readiness::register(listening)?;
    for accepted in 1_usize.. {
        if accepted.is_multiple_of(ACCEPTS_AT_A_TIME) {
            tokio::task::yield_now().await;
        }
        while services.authority.quotas.waiting() >= MAX_UNCLOSED_IN_ALL {
            tokio::time::sleep(POLL).await;
        }
        let mut guard = listening.readable().await?;
        match accept_with(listening.get_ref(), SocketFlags::CLOEXEC) {
            Ok(socket) => welcome(&services, &name, ClientSocket::new(socket).dropped_in_passing()),
            Err(Errno::WOULDBLOCK) => guard.clear_ready(),
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("accept on control socket \"{name}\" failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

fn welcome(services: &Services, name: &Arc<str>, socket: ClientSocket) {
    let principal = match principal(name, &socket) {
        Ok(principal) => principal,
        Err(error) => return tracing::debug!("a control connection has no credentials: {error}"),
    };
    let services = services.clone();
    let has_grant = services.authority.has_grant(&principal);
    let ungranted = Owner::ungranted();
    let account = services.authority.quotas.account(if has_grant { &principal.owner } else { &ungranted });
    if !account.may_connect() {
        // The connection is reset here, before any byte of it is received.
        drop(socket.with_account(account));
    } else if has_grant {
        tokio::spawn(async move { log_end(converse(&services, principal, socket).await) });
    } else if let Some(slot) = ungranted_slot(&services) {
        tokio::spawn(async move { log_end(refuse_all(&services, principal, socket, slot).await) });
    } else {
        // Also reset before any byte is received.
        drop(socket.with_account(account));
    }
}

fn log_end(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!("a control connection ended: {error}");
    }
}

fn principal(name: &Arc<str>, socket: &ClientSocket) -> io::Result<Principal> {
    let credentials::Credentials { uid, gid, gids, pid } = credentials::credentials(socket)?;
    Ok(Principal { owner: Owner { socket: Arc::clone(name), uid }, gid, gids: gids.into(), pid })
}

/// Takes a part of the common account of all callers without a grant.
fn ungranted_slot(services: &Services) -> Option<QuotaGuard> {
    let bound = Bound { owner: services.authority.limits().ungranted_connections, all: None };
    services.authority.quotas.take(&Owner::ungranted(), Kind::Ungranted, 1, bound).ok()
}

async fn converse(services: &Services, principal: Principal, socket: ClientSocket) -> io::Result<()> {
    // No data before `hello` has a descriptor.
    let socket =
        socket.without_descriptors().with_account(services.authority.quotas.account(&principal.owner));
    let turn = services.turns.of(&principal.owner);
    let mut channel = Channel::new(socket, principal.owner.clone(), services.authority.quotas.clone(), turn)?;
    let limits = services.authority.limits();
    let bound = Bound { owner: limits.control_connections_per_owner, all: Some(limits.control_connections) };
    let slot = match services.authority.quotas.take(&principal.owner, Kind::ControlConnections, 1, bound) {
        Ok(slot) => slot,
        Err(failure) => return channel.refuse(None, &failure, limits.request()).await,
    };
    let mut session = Session::new(services.clone(), principal, true);
    let outcome = channel.run(services, &mut session).await;
    drop(slot);
    outcome
}

/// Answers `hello`, and refuses all other requests. The caller's own account is not charged, because one user can have
/// many user IDs.
async fn refuse_all(
    services: &Services,
    principal: Principal,
    socket: ClientSocket,
    slot: QuotaGuard,
) -> io::Result<()> {
    let all = Owner::ungranted();
    let socket = socket.without_descriptors().with_account(services.authority.quotas.account(&all));
    let turn = services.turns.of(&all);
    let mut channel = Channel::new(socket, all, services.authority.quotas.clone(), turn)?;
    channel.has_grant = false;
    let mut session = Session::new(services.clone(), principal, false);
    let outcome = channel.run(services, &mut session).await;
    drop(channel);
    drop(slot);
    outcome
}
