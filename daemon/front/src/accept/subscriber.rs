//! The front's end of a subscriber's delivery socket.

use crate::{
    accept::{Acceptors, Listener},
    runtime::{readiness, sockets::ClientSocket},
};
use rustix::io::Errno;
use std::{os::fd::AsFd, sync::Arc};
use tokio::io::Interest;

/// The maximum size of a subscriber's message, in bytes. Each byte is one command of the protocol.
const MAX_MESSAGE: usize = 256;

/// Receives a subscriber's messages until it disconnects.
pub(crate) async fn listen(
    acceptors: Arc<Acceptors>,
    listener: Arc<Listener>,
    id: u64,
    delivery: Arc<ClientSocket>,
) {
    hear_all(&delivery, |said| listener.heard(id, said)).await;
    if listener.remove_subscriber(id) {
        acceptors.stop(&listener, delivery);
    }
}

/// Receives each message until the subscriber disconnects or sends what is not permitted (descriptors).
async fn hear_all(delivery: &ClientSocket, mut heard: impl FnMut(&[u8])) {
    let socket = match readiness::register_borrowed(delivery.as_fd()) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!("cannot listen to a holder: {error}"),
    };
    let mut message = [0; MAX_MESSAGE];
    loop {
        let Ok(mut guard) = socket.readable().await else { return };
        match delivery.receive(&mut message) {
            Ok(received) if received.count > 0 && !received.had_descriptors => {
                heard(&message[..received.count.min(MAX_MESSAGE)]);
            }
            Err(Errno::WOULDBLOCK) => guard.clear_ready(),
            _ => return,
        }
    }
}

/// Waits until the other end of a stream has gone. A half-close is not such an end.
pub(crate) async fn hung_up(stream: &ClientSocket) {
    let Ok(socket) = readiness::register_borrowed(stream.as_fd()) else {
        return std::future::pending().await;
    };
    loop {
        // Not registered for writing, so only a hang-up makes it ready for that.
        let Ok(mut guard) = socket.ready(Interest::WRITABLE).await else { return };
        if guard.ready().is_write_closed() {
            return;
        }
        guard.clear_ready();
    }
}
