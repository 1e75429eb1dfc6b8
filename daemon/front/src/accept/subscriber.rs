//! The front's end of a subscriber's delivery socket.

use crate::{
    accept::{Acceptors, Listener},
    runtime::{readiness, sockets::ClientSocket},
};
use rustix::io::Errno;
use std::{os::fd::AsFd, sync::Arc};
use tokio::io::Interest;

/// The largest message of a subscriber, in bytes; each byte is one word of the protocol.
const MAX_MESSAGE: usize = 256;

/// Hears what a subscriber says, until it goes.
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

/// Hears every message, until the subscriber goes or sends what it may not (descriptors).
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

/// Ends when the other end of a stream has gone; a half-close is no such end.
pub(crate) async fn hung_up(stream: &ClientSocket) {
    let Ok(socket) = readiness::register_borrowed(stream.as_fd()) else {
        return std::future::pending().await;
    };
    loop {
        // Not registered for writing, so nothing but a hang-up makes it ready for that.
        let Ok(mut guard) = socket.ready(Interest::WRITABLE).await else { return };
        if guard.ready().is_write_closed() {
            return;
        }
        guard.clear_ready();
    }
}
