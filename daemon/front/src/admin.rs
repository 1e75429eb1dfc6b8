//! The supervisor's door: pushes of the configuration and the trust bundles.

use super::{Front, peer, readiness, status};
use luassl_keeper_ipc::sd_notify::SdNotify;
use luassl_keeper_ipc::transport::{self, RecvError};
use luassl_settings::{self as push, Push, PushReply};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with, sockopt::socket_acceptconn},
};
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The largest message of the supervisor, in bytes; what is larger comes in a memfd.
const MAX_MESSAGE: usize = 64 * 1024;

/// How long accepting waits after it has failed, as without descriptors.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Serves the admin socket on a thread of its own, so that neither waits for the other: pushes and what clients ask. What
/// is returned tells how that ended.
///
/// # Errors
/// When the kernel gives no thread or no epoll instance.
pub(super) fn start(front: Arc<Front>, admin: OwnedFd) -> io::Result<oneshot::Receiver<io::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        luassl_tls::may_sign(false);
        // The front may be ending for another reason.
        let _ = ended.send(runtime.block_on(serve(front, admin)));
    })?;
    Ok(end)
}

/// Serves the admin socket, whether it is one connection or listens for them.
async fn serve(front: Arc<Front>, admin: OwnedFd) -> io::Result<()> {
    if !socket_acceptconn(&admin)? {
        return converse(&front, admin).await;
    }
    rustix::io::ioctl_fionbio(&admin, true)?;
    let listening = readiness::register(admin)?;
    loop {
        let mut guard = listening.readable().await?;
        match accept_with(listening.get_ref(), SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let front = Arc::clone(&front);
                tokio::spawn(async move {
                    if let Err(error) = admit(&front, socket).await {
                        tracing::warn!("an admin connection ended: {error}");
                    }
                });
            }
            Err(Errno::WOULDBLOCK) => guard.clear_ready(),
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("accept on the admin socket failed: {error}");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Root's and the front's own user's alone, whatever the socket's mode says.
async fn admit(front: &Arc<Front>, socket: OwnedFd) -> io::Result<()> {
    peer::check_supervisor(&socket)?;
    converse(front, socket).await
}

async fn converse(front: &Arc<Front>, socket: OwnedFd) -> io::Result<()> {
    let socket = readiness::register(socket)?;
    let mut message = vec![0; MAX_MESSAGE];
    loop {
        let mut guard = socket.readable().await?;
        match transport::recv(socket.get_ref(), &mut message, transport::DESCRIPTORS_MAX, RecvFlags::DONTWAIT)
        {
            Ok(received) if received.len == 0 => return Ok(()),
            Ok(received) => {
                let reply = take(front, &message[..received.len], received.descriptors);
                transport::send(socket.get_ref(), &reply, &[], SendFlags::DONTWAIT)?;
            }
            Err(RecvError::System(Errno::WOULDBLOCK)) => guard.clear_ready(),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
}

fn take(front: &Arc<Front>, message: &[u8], descriptors: Vec<OwnedFd>) -> Vec<u8> {
    if let Some(reply) = status::answer(front, message) {
        return reply;
    }
    told(front.notice.as_ref().map(SdNotify::reloading));
    let reply = match push::receive_settings(message, descriptors) {
        Ok(Push { settings, listeners }) => front.activate(settings, listeners),
        Err(error) => PushReply::faulty(format!("the push cannot be read: {error}")),
    };
    told(front.notice.as_ref().map(SdNotify::ready));
    reply.encode()
}

/// Looks whether the service manager could be told.
pub(super) fn told(outcome: Option<io::Result<()>>) {
    if let Some(Err(error)) = outcome {
        tracing::warn!("NOTIFY_SOCKET cannot be written to: {error}");
    }
}
