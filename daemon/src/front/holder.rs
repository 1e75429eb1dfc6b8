//! The front's end of a holder's delivery socket.

use super::{Front, listener::Listener, readiness};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};
use tokio::io::unix::AsyncFd;

/// The largest message of a holder, in bytes; each byte is one word of the protocol.
const MAX_MESSAGE: usize = 256;

/// Hears what a holder says, until it goes.
pub(super) async fn listen(front: Arc<Front>, listener: Arc<Listener>, id: u64, delivery: Arc<OwnedFd>) {
    match readiness::register_borrowed(delivery.as_fd()) {
        Ok(socket) => hear_all(&listener, id, &socket).await,
        Err(error) => tracing::error!("cannot listen to a holder: {error}"),
    }
    if listener.remove_holder(id) {
        front.acceptors.stop(&listener, delivery);
    }
}

async fn hear_all(listener: &Listener, id: u64, socket: &AsyncFd<BorrowedFd<'_>>) {
    let mut message = [0; MAX_MESSAGE];
    loop {
        let Ok(mut guard) = socket.readable().await else { return };
        match recv(socket.get_ref(), &mut message, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return,
            Ok((_, count)) => listener.heard(id, &message[..count.min(MAX_MESSAGE)]),
            Err(Errno::WOULDBLOCK) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Ends when the other end of a stream has gone.
pub(super) async fn hung_up(stream: &OwnedFd) {
    let Ok(socket) = readiness::register_borrowed(stream.as_fd()) else {
        return std::future::pending().await;
    };
    loop {
        let Ok(mut guard) = socket.readable().await else { return };
        if guard.ready().is_read_closed() {
            return;
        }
        guard.clear_ready();
    }
}
