//! The admin socket of the supervisor: pushes of the configuration and the trust bundles.

use crate::{
    activation::activate, authorization::credentials, runtime::readiness, services::Services, status,
};
use luassl_keeper_ipc::sd_notify::SdNotify;
use luassl_keeper_ipc::transport::{self, RecvError};
use luassl_settings::{self as push, Push, PushReply};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with, sockopt::socket_acceptconn},
};
use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The maximum size of a message of the supervisor, in bytes. A larger message is sent in a memfd.
const MAX_MESSAGE: usize = 64 * 1024;

/// The pause after accepting has failed, for example because no descriptor is left.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Serves the admin socket on a dedicated thread, so that pushes and the requests of clients do not wait for each
/// other. The returned receiver reports how the thread ended.
///
/// # Errors
/// Returns an error if the kernel supplies no thread or no epoll instance.
pub(super) fn start(door: Door, admin: OwnedFd) -> io::Result<oneshot::Receiver<io::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    door.ready();
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        luassl_tls::may_sign(false);
        // The front may be ending for another reason.
        let _ = ended.send(runtime.block_on(serve(Arc::new(door), admin)));
    })?;
    Ok(end)
}

/// Serves the admin socket, which is either one connection or a listening socket.
async fn serve(door: Arc<Door>, admin: OwnedFd) -> io::Result<()> {
    if !socket_acceptconn(&admin)? {
        return converse(&door, admin).await;
    }
    rustix::io::ioctl_fionbio(&admin, true)?;
    let listening = readiness::register(admin)?;
    loop {
        let mut guard = listening.readable().await?;
        match accept_with(listening.get_ref(), SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let door = Arc::clone(&door);
                tokio::spawn(async move {
                    if let Err(error) = admit(&door, socket).await {
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

/// Admits only root and the front's user, whatever the socket's mode permits.
async fn admit(door: &Door, socket: OwnedFd) -> io::Result<()> {
    credentials::check_supervisor(&socket)?;
    converse(door, socket).await
}

async fn converse(door: &Door, socket: OwnedFd) -> io::Result<()> {
    let socket = readiness::register(socket)?;
    let mut message = vec![0; MAX_MESSAGE];
    loop {
        let mut guard = socket.readable().await?;
        match transport::recv(socket.get_ref(), &mut message, transport::DESCRIPTORS_MAX, RecvFlags::DONTWAIT)
        {
            Ok(received) if received.len == 0 => return Ok(()),
            Ok(received) => {
                let reply = door.take(&message[..received.len], received.descriptors);
                transport::send(socket.get_ref(), &reply, &[], SendFlags::DONTWAIT)?;
            }
            Err(RecvError::System(Errno::WOULDBLOCK)) => guard.clear_ready(),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
}

/// The parts of the front that a message of the supervisor affects.
pub(super) struct Door {
    services: Services,
    /// The service manager; `None` if there is none.
    manager: Option<SdNotify>,
}

impl Door {
    pub(super) fn new(services: Services, manager: Option<SdNotify>) -> Self {
        Self { services, manager }
    }

    /// Notifies the service manager that the front serves.
    fn ready(&self) {
        warn_if_not_notified(self.manager.as_ref().map(SdNotify::ready));
    }

    fn take(&self, message: &[u8], descriptors: Vec<OwnedFd>) -> Vec<u8> {
        if let Some(reply) = status::answer(&self.services.authority, &self.services.runtime, message) {
            return reply;
        }
        warn_if_not_notified(self.manager.as_ref().map(SdNotify::reloading));
        let reply = match push::receive_settings(message, descriptors) {
            Ok(Push { settings, listeners }) => activate(&self.services, settings, listeners),
            Err(error) => PushReply::faulty(format!("the push cannot be read: {error}")),
        };
        self.ready();
        reply.encode()
    }
}

/// Logs an error if the service manager could not be notified.
fn warn_if_not_notified(outcome: Option<io::Result<()>>) {
    if let Some(Err(error)) = outcome {
        tracing::warn!("NOTIFY_SOCKET cannot be written to: {error}");
    }
}
