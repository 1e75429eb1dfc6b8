//! Sends a listener's finished connections to its subscribers, as [`Dealing`] decides.

use crate::{
    accept::dealing::{Dealing, Step, Undelivered},
    authorization::quota::QuotaGuard,
    handshake::Established,
    runtime::{
        connection::Connection,
        sockets::{self, ClientSocket},
    },
};
use luassl_keeper_ipc::transport;
use luassl_protocol::{Delivery, ErrorCode, Failure, HandshakeResult, Info, MAX_RESULT, Token, to_body};
use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown, shutdown},
};
use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

/// A finished connection that waits for a subscriber.
pub(crate) struct Finished {
    pub(crate) connection: Arc<Connection>,
    pub(crate) established: Established,
    /// Its part of the limit on connections that no subscriber has taken.
    pub(crate) _slot: QuotaGuard,
}

/// The delivery sockets of a listener's subscribers, and the state machine that decides what is sent on them.
#[derive(Default)]
pub(crate) struct Dispatcher {
    dealing: Dealing<Finished, ClientSocket, Failure>,
    /// The front's end of each subscriber's delivery socket.
    deliveries: BTreeMap<u64, Arc<ClientSocket>>,
}

impl Dispatcher {
    /// Adds a subscriber with the front's end of its delivery socket. Returns `None` if the listener has ended.
    pub(crate) fn add_subscriber(&mut self, delivery: Arc<ClientSocket>) -> Option<u64> {
        let id = self.dealing.add_subscriber()?;
        self.deliveries.insert(id, delivery);
        Some(id)
    }

    /// Applies a message from a subscriber. Returns the connections that it has taken, with the front's ends of their
    /// streams.
    pub(crate) fn heard(&mut self, id: u64, said: &[u8]) -> Vec<(Finished, ClientSocket)> {
        let taken = self.dealing.on_message(id, said);
        self.perform();
        taken
    }

    /// Removes a subscriber that has gone. The connections that it had not taken go to other subscribers. If it was the
    /// last subscriber, the listener ends, and the connections that no subscriber will receive are returned.
    pub(crate) fn remove_subscriber(&mut self, id: u64) -> Option<Vec<Finished>> {
        self.deliveries.remove(&id);
        let undelivered = self.dealing.subscriber_gone(id);
        self.perform();
        undelivered
    }

    /// Ends a listener that has failed permanently. Subscribers read to the end of their sockets. Returns the
    /// connections that no subscriber will receive.
    pub(crate) fn fail(&mut self) -> Vec<Finished> {
        let failed = self.dealing.fail();
        for delivery in failed.close.iter().filter_map(|id| self.deliveries.get(id)) {
            // Fails only if the subscriber has already gone.
            let _ = shutdown(&**delivery, Shutdown::Both);
        }
        failed.undelivered
    }

    /// Returns the waiting connections that no grant allows any more. A connection that is on its way to a subscriber
    /// keeps its place, and its pump will report the end. Its peer is disconnected here.
    pub(crate) fn drop_withdrawn(&mut self) -> Vec<Finished> {
        let is_withdrawn = |finished: &Finished| finished.connection.is_withdrawn();
        let withdrawn = self.dealing.drop_withdrawn(is_withdrawn);
        for finished in self.dealing.unconfirmed() {
            if let Some(tcp) = finished.established.tls.get_ref().fd().filter(|_| is_withdrawn(finished)) {
                // Fails only if the peer has already gone.
                let _ = shutdown(tcp, Shutdown::Both);
            }
        }
        withdrawn
    }

    /// Adds a connection whose handshake has succeeded. Returns the connection if the listener has ended, or if no
    /// grant allows the connection any more.
    pub(crate) fn finished(&mut self, finished: Finished) -> Option<Finished> {
        if finished.connection.is_withdrawn() {
            return Some(finished);
        }
        let refused = self.dealing.connection_finished(finished);
        self.perform();
        refused
    }

    /// Adds a failed handshake. It is kept for a subscriber that asks for reports, now or later.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.dealing.handshake_failed(failure);
        self.perform();
    }

    /// Returns whether the listener has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.dealing.is_closed()
    }

    /// Returns whether deliveries stopped because the front lacked something that may be available again later. If so,
    /// call [`Self::deal`] then.
    pub(crate) fn is_stalled(&self) -> bool {
        self.dealing.is_stalled()
    }

    /// Attempts the deliveries that have stopped.
    pub(crate) fn deal(&mut self) {
        self.dealing.resume();
        self.perform();
    }

    /// Performs the deliveries that the state machine decides on.
    fn perform(&mut self) {
        while let Some(step) = self.dealing.next_step() {
            match step {
                Step::Report { to, report } => {
                    let sent = self.delivery(to).and_then(|socket| send(socket, &report_body(report), None));
                    self.dealing.reported(to, sent);
                }
                Step::Deliver { to, connection } => {
                    let sent = self.delivery(to).and_then(|socket| deliver(socket, connection));
                    self.dealing.delivered(to, sent);
                }
            }
        }
    }

    fn delivery(&self, to: u64) -> Result<&ClientSocket, Undelivered> {
        self.deliveries.get(&to).map(|socket| &**socket).ok_or(Undelivered::Gone)
    }
}

/// Sends a finished connection. Returns the front's end of its stream.
fn deliver(to: &ClientSocket, finished: &Finished) -> Result<ClientSocket, Undelivered> {
    let (ours, theirs) = sockets::stream_pair().map_err(|failure| exhausted(&failure))?;
    let info = Some(finished.established.info.clone());
    let result = HandshakeResult { error: None, info };
    let message = body(Delivery { token: finished.connection.token, result });
    send(to, &message, Some(theirs.as_fd()))?;
    Ok(ours.with_account(finished.connection.account()))
}

fn send(to: &ClientSocket, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Undelivered> {
    let sent = transport::send(to, message, descriptor.as_slice(), SendFlags::DONTWAIT);
    sent.map(drop).map_err(undelivered)
}

fn undelivered(error: Errno) -> Undelivered {
    match error {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Undelivered::Gone,
        Errno::WOULDBLOCK => Undelivered::Full,
        error => exhausted(&Failure::new(ErrorCode::Limit, format!("cannot deliver a connection: {error}"))),
    }
}

fn exhausted(failure: &Failure) -> Undelivered {
    tracing::warn!("{failure}; another attempt follows");
    Undelivered::Exhausted
}

fn report_body(failure: &Failure) -> Vec<u8> {
    let result = HandshakeResult { error: Some(failure.clone()), info: None };
    body(Delivery { token: Token::new([0; 16]), result })
}

/// Returns the encoded message, which is within the limit. An empty message would be mistaken for the end of the
/// socket.
fn body(delivery: Delivery) -> Vec<u8> {
    let within = |delivery: &Delivery| to_body(delivery).ok().filter(|body| body.len() <= MAX_RESULT);
    within(&delivery).unwrap_or_else(|| {
        let HandshakeResult { error, info } = delivery.result;
        let error = error.map(|error| Failure::new(error.code, "the reason is too long to be told"));
        let result = HandshakeResult { error, info: info.map(|_| Info::default()) };
        within(&Delivery { token: delivery.token, result }).unwrap_or_default()
    })
}
