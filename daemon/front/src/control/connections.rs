//! Connections and listeners that a program requests.

use crate::control::{reply::Outcome, session::Session};
use crate::{
    accept::{Listener, ListenerKey, subscriber},
    authorization::{
        admission,
        quota::{Bound, Kind},
    },
    context::{Peer, SessionFactory},
    handshake::{self, Failed},
    lockstep::{Handshaking, LockStep},
    runtime::{
        connection::{Connection, address_text},
        sockets::{self, ClientSocket},
        tcp::Tcp,
    },
    services::Services,
    stream::pump::Pump,
};
use luassl_protocol::{
    Bind, Bound as BoundAnswer, Connect, Connecting, ErrorCode, Failure, HandshakeResult, Mode, Role,
    to_frame,
};
use openssl::ssl::Ssl;
use rustix::net::{SendFlags, send};
use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

impl Session {
    pub(super) async fn connect(
        &self,
        connect: Connect,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Outcome<(Connecting, OwnedFd)> {
        let tcp = sockets::connected_tcp(descriptors)?;
        let (host, sni) = (connect.host.as_deref(), connect.sni.as_deref());
        let made = self.contexts.find(connect.context)?;
        let asks = made.context_request.asks_for_keys();
        if asks && connect.mode != Mode::LockStep {
            return Err(asks_in_lock_step());
        }
        let address = sockets::peer(tcp.as_fd());
        let peer = match connect.mode {
            Mode::Stream => Peer::Resumable(address),
            Mode::LockStep if connect.resume => Peer::Resumable(address),
            // LuaSec's clients start a new session.
            Mode::LockStep => Peer::New(address),
        };
        let peer = match connect.dane {
            Some(dane) => Peer::ByRecords(address, dane),
            None => peer,
        };
        let ssl = made.sessions.session(connect.role, host, sni, peer).await?;
        // The floors are requested before anything is taken that an error would have to return.
        let floors = made.sessions.floors(connect.role).await?;
        let limits = self.services.authority.limits();
        let take = |kind, own, all| {
            self.services.authority.quotas.take(
                &self.principal.owner,
                kind,
                1,
                Bound { owner: own, all: Some(all) },
            )
        };
        let handshake_slot = take(Kind::Handshakes, limits.handshakes_per_owner, limits.handshakes)?;
        let dedicated_thread =
            || take(Kind::PskHandshakes, limits.psk_handshakes_per_owner, limits.psk_handshakes);
        let dedicated_thread = asks.then(dedicated_thread).transpose()?;
        let own = self.services.authority.connection_bound(&self.principal);
        let connection_slot = take(Kind::Connections, own, limits.connections)?;
        let (ours, theirs) = sockets::stream_pair()?;
        let ours = ours.with_account(connection_slot.account());
        let server = connect.role == Role::Server;
        let connection =
            self.services.runtime.connections.enter(self.principal.owner.clone(), server, connection_slot)?;
        connection.rests_on(made.sessions.standing(connect.role));
        let token = connection.token;
        let services = self.services.clone();
        if connect.mode == Mode::LockStep {
            let contexts = self.contexts.clone();
            let handshaking = Handshaking { _slot: handshake_slot, contexts, floors, dedicated_thread };
            let begun = LockStep::new(
                (services.authority, services.runtime),
                Arc::clone(&connection),
                (ssl, tcp),
                ours,
                handshaking,
            )
            .and_then(LockStep::start);
            begun.inspect_err(|_| self.services.runtime.connections.leave(&connection))?;
            return Ok((Connecting { token }, theirs));
        }
        self.services.runtime.handshake_workers.spawn(Box::pin(async move {
            run_outgoing(&services, connection, ssl, tcp, connect.role, ours).await;
            drop(handshake_slot);
        }));
        Ok((Connecting { token }, theirs))
    }

    pub(super) async fn bind(
        &self,
        bind: Bind,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Outcome<(BoundAnswer, OwnedFd)> {
        let context_request = Arc::clone(&self.contexts.find(bind.context)?.context_request);
        if context_request.asks_for_keys() {
            return Err(asks_in_lock_step());
        }
        let sessions = SessionFactory::new(
            Arc::clone(&self.services.contexts),
            self.principal.clone(),
            context_request,
            bind.listener.clone(),
        );
        // The request is refused here, and not at the first peer.
        sessions.check(Role::Server).await?;
        let (key, socket) = match bind.listener {
            Some(name) => self.named_listener(name)?,
            None => {
                let fd = sockets::listening_tcp(descriptors)?;
                (ListenerKey::Own(sockets::cookie(fd.as_fd())?), Arc::new(fd))
            }
        };
        let address = rustix::net::getsockname(&*socket).ok();
        let address = address.as_ref().map(address_text).unwrap_or_default();
        let (ours, theirs) = sockets::delivery_pair()?;
        let ours = Arc::new(ours.with_account(self.services.authority.quotas.account(&self.principal.owner)));
        let (listener, subscriber) = self.join(key, socket, sessions, &ours).await?;
        tokio::spawn(subscriber::listen(Arc::clone(&self.services.acceptors), listener, subscriber, ours));
        Ok((BoundAnswer { address }, theirs))
    }

    fn named_listener(&self, name: String) -> Outcome<(ListenerKey, Arc<Tcp>)> {
        match self.services.acceptors.socket_of(&name) {
            Some(socket) => Ok((ListenerKey::Named(name), socket)),
            None => Err(Failure::new(
                ErrorCode::Unavailable,
                format!(
                    "listener \"{name}\" has no socket: luassld could not bind it, or no socket unit passes it"
                ),
            )),
        }
    }

    /// Joins the running listener for the key, or starts it.
    async fn join(
        &self,
        key: ListenerKey,
        socket: Arc<Tcp>,
        sessions: SessionFactory,
        delivery: &Arc<ClientSocket>,
    ) -> Outcome<(Arc<Listener>, u64)> {
        if let Some(running) = self.services.acceptors.find(&key) {
            if running.owner != self.principal.owner || !running.sessions.is_like(&sessions).await? {
                return Err(Failure::new(
                    ErrorCode::InUse,
                    "the listener is in use with other settings, or by another user",
                ));
            }
            if let Some(subscriber) = running.add_subscriber(Arc::clone(delivery)) {
                return Ok((running, subscriber));
            }
        }
        let limits = self.services.authority.limits();
        let bound = Bound { owner: limits.listeners_per_owner, all: Some(limits.listeners) };
        let slot = self.services.authority.quotas.take(&self.principal.owner, Kind::Listeners, 1, bound)?;
        let listener = self.services.acceptors.start(key, socket, sessions, slot)?;
        // A reload in the meantime may have replaced the socket.
        self.services.acceptors.follow();
        // It may also have changed the grants.
        if listener.sessions.standing(Role::Server).judge(&self.services.authority.active()).is_err() {
            listener.fail();
        }
        let Some(subscriber) = listener.add_subscriber(Arc::clone(delivery)) else {
            self.services.acceptors.stop(&listener, Arc::clone(delivery));
            return Err(Failure::new(ErrorCode::Descriptor, "the socket listens no more"));
        };
        Ok((listener, subscriber))
    }
}

/// Runs an outgoing (or attached) connection: the handshake, its result on the stream, then the pump.
async fn run_outgoing(
    Services { authority, runtime, .. }: &Services,
    connection: Arc<Connection>,
    ssl: Ssl,
    tcp: Tcp,
    role: Role,
    stream: ClientSocket,
) {
    let limits = authority.limits();
    let outcome = tokio::select! {
        outcome = handshake::handshake(ssl, tcp, role, limits.handshake()) => outcome,
        failure = connection.withdrawn() => Err(Failed::without_alert(failure)),
        () = subscriber::hung_up(&stream) => {
            runtime.connections.leave(&connection);
            return;
        }
    };
    let outcome = outcome.and_then(|established| {
        admission::admit(authority, &connection, established.tls.ssl())
            .map_err(Failed::without_alert)
            .map(|()| established)
    });
    let result = match &outcome {
        Ok(established) => HandshakeResult { error: None, info: Some(established.info.clone()) },
        Err(failed) => HandshakeResult { error: Some(failed.failure.clone()), info: None },
    };
    let frame = to_frame(&result).unwrap_or_default();
    // The socket is new, and its buffer holds many such frames. If Lua has closed its end, the pump detects it.
    let _ = send(&stream, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    match outcome {
        Ok(established) => {
            authority.counters.handshake_done(&connection.owner);
            Pump::new(Arc::clone(runtime), connection, established.tls, stream, limits.shutdown()).start();
        }
        Err(failed) => {
            authority.counters.handshake_failed(&connection.owner, &failed.failure);
            connection.record_end(failed.failure.clone());
            runtime.connections.leave(&connection);
            failed.part().await;
        }
    }
}

fn asks_in_lock_step() -> Failure {
    Failure::new(ErrorCode::Invalid, "a context that asks for its psk is for connections in lock-step mode")
}
