//! The operations of a control connection, one function each.

use super::{
    Front,
    connection::{Command, Connection, with_addresses},
    context::{self, ContextRequest, Peer, Principal, SessionFactory, digests_of, identities_of},
    control::{Answer, Answering, CHUNK},
    counters::Refusal,
    handshake::{self, Failed},
    listener::{Listener, ListenerKey},
    lockstep::{Handshaking, LockStep},
    policy::{Denial, Operation, SocketSource},
    pump::Pump,
    quota::{Bound, Kind, QuotaGuard},
    sockets,
    standing::Standing,
    subscriber,
};
use luassl_protocol::{
    Bind, Blob, BlobStored, Bound as BoundAnswer, Connect, Connecting, ConnectionRef, ContextMade, Digest,
    Done, ErrorCode, Export, Exported, Failure, FreeContext, HandshakeResult, Hello, Info, MakeContext,
    Matched, Mode, PeerCertificate, PeerMatches, Request, Role, SetOption, SocketOption, Status, Token,
    VERSION, Welcome, feature, reply_frame, to_frame,
};
use luassl_tls::{self as tls, Floors};
use openssl::ssl::{SslContext, SslRef};
use rustix::net::{SendFlags, send, sockopt};
use serde::Serialize;
use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// The largest amount of keying material that one request exports, in bytes: as much as there is with SHA-384 (RFC 5869,
/// 2.3).
const MAX_EXPORT: u32 = 255 * 48;

/// The label and the context value of such a request together, in bytes. TLS 1.2 hashes them anew for every 32 bytes or so
/// that it exports, on a thread with connections of all owners.
const MAX_EXPORTED_FROM: usize = 4 * 1024;

/// What a blob costs beside its bytes, in bytes: its entry, its digest and its part of the bound.
const BLOB_OVERHEAD: u64 = 256;

/// What a byte of a context's description costs in memory while the context lasts, in bytes: names are strings of their
/// own, and each use of the context has a copy.
const DESCRIPTION_COST: u64 = 4;

/// Blobs that one control connection may keep.
const MAX_BLOBS: usize = 4_096;

/// What one control connection has made.
pub(super) struct Session {
    front: Arc<Front>,
    principal: Principal,
    /// Whether a grant was for the caller when it connected.
    has_grant: bool,
    introduced: bool,
    contexts: ContextTable,
    next_context: u64,
    blobs: HashMap<[u8; 32], (Arc<[u8]>, QuotaGuard)>,
}

/// The contexts of a control connection, which the handshakes that it began share.
#[derive(Clone, Default)]
pub(super) struct ContextTable(Arc<Mutex<HashMap<u64, Arc<ContextEntry>>>>);

impl ContextTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<ContextEntry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, number: u64) -> Outcome<Arc<ContextEntry>> {
        self.lock().get(&number).cloned().ok_or_else(|| unknown_context(number))
    }

    /// What a server's session by the context of `number` rests on.
    pub(super) fn standing(&self, number: u64) -> Option<Arc<Standing>> {
        self.lock().get(&number).map(|made| made.sessions.standing(Role::Server))
    }

    /// The OpenSSL context of `number` for a server's session that began in another one, whose grant demands `floors`.
    ///
    /// # Errors
    /// An unknown number, and as [`SessionFactory::chosen`].
    pub(super) async fn for_server(
        &self,
        front: &Arc<Front>,
        number: u64,
        floors: Floors,
        peer: Option<SocketAddr>,
    ) -> Outcome<SslContext> {
        self.find(number)?.sessions.chosen(front, floors, peer).await
    }
}

/// A context of this control connection.
struct ContextEntry {
    context_request: Arc<ContextRequest>,
    /// Its use with sockets of the client's own.
    sessions: SessionFactory,
    /// Keeps what was made for the check alive for the first use.
    _checked: Arc<tls::Context>,
}

type Outcome<T> = Result<T, Failure>;

impl Session {
    pub(super) fn new(front: Arc<Front>, principal: Principal, has_grant: bool) -> Self {
        Self {
            front,
            principal,
            has_grant,
            introduced: false,
            contexts: ContextTable::default(),
            next_context: 1,
            blobs: HashMap::new(),
        }
    }

    /// Whether `hello` has been said.
    pub(super) fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// Carries a request out that had `size` bytes. The descriptor that came with it is taken out where it is good. What waits for a
    /// connection is answered later, so that no other request waits for it.
    pub(super) async fn answer(
        &mut self,
        id: u64,
        request: Request,
        size: u64,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Answering {
        if !self.introduced && !matches!(request, Request::Hello(_)) {
            let message =
                "the first request of a control connection is hello: connect again and begin with it";
            return Answering::Now(plain(id, Err::<Done, _>(Failure::new(ErrorCode::Version, message))));
        }
        if !self.has_grant && !matches!(request, Request::Hello(_)) {
            return Answering::Now(plain(id, Err::<Done, _>(self.without_grant())));
        }
        Answering::Now(match request {
            Request::Info(of) => return later(id, self.info(&of)),
            Request::PeerCertificate(of) => return later(id, self.peer_certificate(&of)),
            Request::PeerMatches(ask) => return later(id, self.peer_matches(ask)),
            Request::Export(export) => return later(id, self.export(export)),
            Request::SetOption(set) => return later(id, self.set_option(&set)),
            Request::Renegotiate(of) => return later(id, self.renegotiate(&of)),
            Request::Close(of) => return later(id, self.close(&of)),
            Request::Hello(hello) => plain(id, self.hello(&hello)),
            Request::Blob(blob) => plain(id, self.blob(blob, size).await),
            Request::Context(make) => plain(id, self.context(*make, size).await),
            Request::FreeContext(free) => plain(id, self.free_context(&free)),
            Request::Connect(connect) => with_descriptor(id, self.connect(connect, descriptors).await),
            Request::Bind(bind) => with_descriptor(id, self.bind(bind, descriptors).await),
            Request::Status(of) => plain(id, self.status(&of)),
            Request::Certificate(read) => plain(id, self.parse(move || tls::read_certificate(&read)).await),
            Request::CheckIssued(check) => plain(id, self.parse(move || tls::check_issued(&check)).await),
            Request::Describe(_) => plain(id, Ok(tls::capabilities())),
            Request::Unknown(op) => {
                let message = format!("operation \"{op}\" is not known to this luassld");
                plain(id, Err::<Done, _>(Failure::new(ErrorCode::UnknownOperation, message)))
            }
        })
    }

    /// The refusal of whatever a caller without a grant asks for.
    fn without_grant(&self) -> Failure {
        self.front.counters.refused(&self.principal.owner, Refusal::Denied(Denial::NoGrant.word()));
        let operation = Operation { identities: &[], role: None, way: SocketSource::Context };
        self.front.audit.refused(&self.principal, &operation, &Denial::NoGrant);
        Denial::NoGrant.into_failure()
    }

    fn hello(&mut self, hello: &Hello) -> Outcome<Welcome> {
        if self.introduced {
            return Err(Failure::new(ErrorCode::Invalid, "hello has been said already"));
        }
        if hello.version != VERSION {
            return Err(Failure::new(
                ErrorCode::Version,
                format!(
                    "version {} of the protocol is not spoken here: connect again with version {VERSION}, or use a module and a luassld of like age",
                    hello.version
                ),
            ));
        }
        self.introduced = true;
        tracing::debug!(uid = self.principal.owner.uid, client = %hello.client, "hello");
        Ok(Welcome {
            version: VERSION,
            features: feature::ALL.map(str::to_owned).into(),
            server: concat!("luassld ", env!("CARGO_PKG_VERSION")).to_owned(),
            openssl: openssl::version::version().to_owned(),
            frame_limit: u64::from(self.front.limits().frame_bytes),
        })
    }

    async fn blob(&mut self, blob: Blob, size: u64) -> Outcome<BlobStored> {
        let hash = move || (openssl::sha::sha256(&blob.data), blob.data);
        let (digest, data) = if size > CHUNK as u64 {
            self.front.parsing.run_frame(&self.principal.owner, &self.front.limits(), hash).await?
        } else {
            hash()
        };
        if !self.blobs.contains_key(&digest) {
            if self.blobs.len() >= MAX_BLOBS {
                let message = format!("the limit of {MAX_BLOBS} blobs of one control connection is reached");
                return Err(Failure::new(ErrorCode::Limit, message));
            }
            let limits = self.front.limits();
            let bound = Bound { owner: limits.blob_bytes_per_owner, all: Some(limits.blob_bytes) };
            let amount = data.len() as u64 + BLOB_OVERHEAD;
            let slot = self.front.quotas.take(&self.principal.owner, Kind::BlobBytes, amount, bound)?;
            self.blobs.insert(digest, (data.into(), slot));
        }
        Ok(BlobStored { digest: Digest::new(digest) })
    }

    /// Parses something for whoever has a grant, where it holds up nobody else.
    async fn parse<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        self.front.granted(&self.principal)?;
        self.front.parsing.run(&self.principal.owner, &self.front.limits(), work).await?
    }

    async fn context(&mut self, MakeContext { spec, again }: MakeContext, size: u64) -> Outcome<ContextMade> {
        self.front.granted(&self.principal)?;
        let missing: Vec<_> =
            digests_of(&spec).into_iter().filter(|digest| !self.blobs.contains_key(&**digest)).collect();
        if !missing.is_empty() {
            return Ok(ContextMade { context: None, missing });
        }
        if !identities_of(&spec).is_empty() {
            self.front.identities_synced().await;
        }
        let limits = self.front.limits();
        let own = self.front.context_bound(&self.principal);
        let bound = Bound { owner: own, all: Some(limits.contexts) };
        let slot = self.front.quotas.take(&self.principal.owner, Kind::Contexts, 1, bound)?;
        let parsed = Bound { owner: limits.parsed_bytes_per_owner, all: Some(limits.parsed_bytes) };
        let description = size.saturating_mul(DESCRIPTION_COST);
        let description =
            self.front.quotas.take(&self.principal.owner, Kind::ParsedBytes, description, parsed)?;
        let blobs = digests_of(&spec)
            .iter()
            .filter_map(|digest| Some((*digest, Arc::clone(&self.blobs.get(&**digest)?.0))))
            .collect();
        let context_request =
            Arc::new(ContextRequest { spec, blobs, recreated: again, _slots: vec![slot, description] });
        let checked = context::first(&self.front, &self.principal, &context_request).await?;
        let sessions = SessionFactory::new(self.principal.clone(), Arc::clone(&context_request), None);
        let number = self.next_context;
        self.next_context += 1;
        self.contexts
            .lock()
            .insert(number, Arc::new(ContextEntry { context_request, sessions, _checked: checked.context }));
        Ok(ContextMade { context: Some(number), missing: Vec::new() })
    }

    fn free_context(&mut self, free: &FreeContext) -> Outcome<Done> {
        self.contexts
            .lock()
            .remove(&free.context)
            .map(|_| Done {})
            .ok_or_else(|| unknown_context(free.context))
    }

    fn made(&self, context: u64) -> Outcome<Arc<ContextEntry>> {
        self.contexts.find(context)
    }

    // -- connections ---------------------------------------------------------------------------------------------

    async fn connect(
        &self,
        connect: Connect,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Outcome<(Connecting, OwnedFd)> {
        let tcp = sockets::connected_tcp(descriptors)?;
        let (host, sni) = (connect.host.as_deref(), connect.sni.as_deref());
        let made = self.made(connect.context)?;
        let asks = made.context_request.asks_for_keys();
        if asks && connect.mode != Mode::LockStep {
            return Err(asks_in_lock_step());
        }
        let address = sockets::peer(tcp.as_fd());
        let peer = match connect.mode {
            Mode::Stream => Peer::Resumable(address),
            Mode::LockStep if connect.resume => Peer::Resumable(address),
            // LuaSec's clients begin anew.
            Mode::LockStep => Peer::New(address),
        };
        let peer = match connect.dane {
            Some(dane) => Peer::ByRecords(address, dane),
            None => peer,
        };
        let ssl = made.sessions.session(&self.front, connect.role, host, sni, peer).await?;
        // Asked for before anything is taken that would have to be given back.
        let floors = made.sessions.floors(&self.front, connect.role).await?;
        let limits = self.front.limits();
        let take = |kind, own, all| {
            self.front.quotas.take(&self.principal.owner, kind, 1, Bound { owner: own, all: Some(all) })
        };
        let handshake_slot = take(Kind::Handshakes, limits.handshakes_per_owner, limits.handshakes)?;
        let dedicated_thread =
            || take(Kind::PskHandshakes, limits.psk_handshakes_per_owner, limits.psk_handshakes);
        let dedicated_thread = asks.then(dedicated_thread).transpose()?;
        let own = self.front.connection_bound(&self.principal);
        let connection_slot = take(Kind::Connections, own, limits.connections)?;
        let (ours, theirs) = sockets::stream_pair()?;
        let ours = ours.with_account(connection_slot.account());
        let server = connect.role == Role::Server;
        let connection =
            self.front.runtime.connections.enter(self.principal.owner.clone(), server, connection_slot)?;
        connection.rests_on(made.sessions.standing(connect.role));
        let token = connection.token;
        let front = Arc::clone(&self.front);
        if connect.mode == Mode::LockStep {
            let contexts = self.contexts.clone();
            let handshaking = Handshaking { _slot: handshake_slot, contexts, floors, dedicated_thread };
            let begun = LockStep::new(front, Arc::clone(&connection), (ssl, tcp), ours, handshaking)
                .and_then(LockStep::start);
            begun.inspect_err(|_| self.front.runtime.connections.leave(&connection))?;
            return Ok((Connecting { token }, theirs));
        }
        self.front.runtime.handshake_workers.spawn(Box::pin(async move {
            run_outgoing(front, connection, ssl, tcp, connect.role, ours).await;
            drop(handshake_slot);
        }));
        Ok((Connecting { token }, theirs))
    }

    async fn bind(&self, bind: Bind, descriptors: &mut Vec<OwnedFd>) -> Outcome<(BoundAnswer, OwnedFd)> {
        let context_request = Arc::clone(&self.made(bind.context)?.context_request);
        if context_request.asks_for_keys() {
            return Err(asks_in_lock_step());
        }
        let sessions = SessionFactory::new(self.principal.clone(), context_request, bind.listener.clone());
        // Refused here, and not at the first peer.
        sessions.check(&self.front, Role::Server).await?;
        let (key, socket) = match bind.listener {
            Some(name) => self.named_listener(name)?,
            None => {
                let fd = sockets::listening_tcp(descriptors)?;
                (ListenerKey::Own(sockets::cookie(fd.as_fd())?), Arc::new(fd))
            }
        };
        let address = rustix::net::getsockname(&*socket).ok();
        let address = address.as_ref().map(super::connection::address_text).unwrap_or_default();
        let (ours, theirs) = sockets::delivery_pair()?;
        let ours = Arc::new(ours.with_account(self.front.quotas.account(&self.principal.owner)));
        let (listener, subscriber) = self.join(key, socket, sessions, &ours).await?;
        tokio::spawn(subscriber::listen(Arc::clone(&self.front), listener, subscriber, ours));
        Ok((BoundAnswer { address }, theirs))
    }

    fn named_listener(&self, name: String) -> Outcome<(ListenerKey, Arc<crate::tcp::Tcp>)> {
        match self.front.active().listeners.get(&name) {
            Some(socket) => Ok((ListenerKey::Named(name), Arc::clone(socket))),
            None => Err(Failure::new(
                ErrorCode::Unavailable,
                format!(
                    "listener \"{name}\" has no socket: luassld could not bind it, or no socket unit passes it"
                ),
            )),
        }
    }

    /// Joins the running listener of that key, or starts it.
    async fn join(
        &self,
        key: ListenerKey,
        socket: Arc<crate::tcp::Tcp>,
        sessions: SessionFactory,
        delivery: &Arc<sockets::ClientSocket>,
    ) -> Outcome<(Arc<Listener>, u64)> {
        if let Some(running) = self.front.acceptors.find(&key) {
            if running.owner != self.principal.owner
                || !running.sessions.is_like(&self.front, &sessions).await?
            {
                return Err(Failure::new(
                    ErrorCode::InUse,
                    "the listener is in use with other settings, or by another user",
                ));
            }
            if let Some(subscriber) = running.add_subscriber(Arc::clone(delivery)) {
                return Ok((running, subscriber));
            }
        }
        let limits = self.front.limits();
        let bound = Bound { owner: limits.listeners_per_owner, all: Some(limits.listeners) };
        let slot = self.front.quotas.take(&self.principal.owner, Kind::Listeners, 1, bound)?;
        let owner = self.principal.owner.clone();
        let listener = Listener::start(&self.front, owner, key, socket, sessions, slot)?;
        // A reload in between may have brought another socket.
        self.front.acceptors.follow(&self.front);
        // Or other grants.
        if listener.sessions.standing(Role::Server).judge(&self.front.active()).is_err() {
            listener.fail();
        }
        let Some(subscriber) = listener.add_subscriber(Arc::clone(delivery)) else {
            self.front.acceptors.stop(&listener, Arc::clone(delivery));
            return Err(Failure::new(ErrorCode::Descriptor, "the socket listens no more"));
        };
        Ok((listener, subscriber))
    }

    // -- questions about a connection ----------------------------------------------------------------------------

    fn find(&self, token: &Token) -> Outcome<Arc<Connection>> {
        self.front.runtime.connections.find(token, &self.principal.owner)
    }

    fn status(&self, of: &ConnectionRef) -> Outcome<Status> {
        self.front.runtime.connections.status(&of.token, &self.principal.owner)
    }

    /// Puts a question to the pump that has the connection.
    fn ask<T: Send + 'static>(
        &self,
        token: &Token,
        question: impl FnOnce(&SslRef, Option<BorrowedFd<'_>>) -> Outcome<T> + Send + 'static,
    ) -> Outcome<Pending<T>> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |ssl: &SslRef, fd: Option<BorrowedFd<'_>>| {
            // The principal may have gone: then nobody needs the answer.
            let _ = reply.send(question(ssl, fd));
        });
        self.find(token)?.send(Command::Ask(question))?;
        Ok(self.wait_for(answer))
    }

    fn wait_for<T>(&self, answer: oneshot::Receiver<Outcome<T>>) -> Pending<T> {
        Pending { answer, deadline: self.front.limits().handshake() }
    }

    fn info(&self, of: &ConnectionRef) -> Outcome<Pending<Info>> {
        self.ask(&of.token, |ssl, fd| Ok(with_addresses(tls::summary(ssl), fd)))
    }

    fn peer_certificate(&self, of: &ConnectionRef) -> Outcome<Pending<PeerCertificate>> {
        self.ask(&of.token, |ssl, _| Ok(tls::peer_certificate(ssl)))
    }

    fn peer_matches(&self, ask: PeerMatches) -> Outcome<Pending<Matched>> {
        let PeerMatches { token, host } = ask;
        self.ask(&token, move |ssl, _| Ok(Matched { matches: tls::peer_matches(ssl, &host) }))
    }

    fn export(&self, export: Export) -> Outcome<Pending<Exported>> {
        if export.length > MAX_EXPORT {
            return Err(Failure::new(
                ErrorCode::Invalid,
                format!("at most {MAX_EXPORT} bytes can be exported"),
            ));
        }
        let context = export.context.as_ref().map_or(0, |context| context.len());
        if export.label.len().saturating_add(context) > MAX_EXPORTED_FROM {
            return Err(Failure::new(
                ErrorCode::Invalid,
                format!("label and context have at most {MAX_EXPORTED_FROM} bytes together"),
            ));
        }
        let token = export.token;
        self.ask(&token, move |ssl, _| {
            let mut data = vec![0; export.length as usize];
            let context = export.context.as_ref().map(|context| &context[..]);
            ssl.export_keying_material(&mut data, &export.label, context)
                .map_err(|_| Failure::new(ErrorCode::Tls, "OpenSSL exports no keying material here"))?;
            Ok(Exported { data })
        })
    }

    fn set_option(&self, set: &SetOption) -> Outcome<Pending<Done>> {
        let SetOption { token, option, on } = *set;
        self.ask(&token, move |_, fd| {
            let gone = || Failure::new(ErrorCode::Closed, "the connection has ended");
            let fd = fd.ok_or_else(gone)?;
            let outcome = match option {
                SocketOption::NoDelay => sockopt::set_tcp_nodelay(fd, on),
                SocketOption::KeepAlive => sockopt::set_socket_keepalive(fd, on),
            };
            outcome.map(|()| Done {}).map_err(|_| gone())
        })
    }

    fn renegotiate(&self, of: &ConnectionRef) -> Outcome<Pending<Done>> {
        let (reply, answer) = oneshot::channel();
        self.find(&of.token)?.send(Command::Renegotiate(reply))?;
        Ok(self.wait_for(answer))
    }

    fn close(&self, of: &ConnectionRef) -> Outcome<Pending<Done>> {
        let (reply, answer) = oneshot::channel();
        self.find(&of.token)?.send(Command::Close(reply))?;
        Ok(self.wait_for(answer))
    }
}

/// An answer that a connection's pump will give, or its peer.
struct Pending<T> {
    answer: oneshot::Receiver<Outcome<T>>,
    deadline: Duration,
}

impl<T> Pending<T> {
    async fn outcome(self) -> Outcome<T> {
        match tokio::time::timeout(self.deadline, self.answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::new(ErrorCode::Closed, "the connection has ended")),
            Err(_) => Err(Failure::new(ErrorCode::Timeout, "the peer did not answer in time")),
        }
    }
}

fn later<T: Serialize + Send + 'static>(id: u64, pending: Outcome<Pending<T>>) -> Answering {
    match pending {
        Ok(pending) => Answering::Later(Box::pin(async move { plain(id, pending.outcome().await) })),
        Err(failure) => Answering::Now(plain(id, Err::<Done, _>(failure))),
    }
}

/// An outgoing (or attached) connection: the handshake, its result on the stream, then the pump.
async fn run_outgoing(
    front: Arc<Front>,
    connection: Arc<Connection>,
    ssl: openssl::ssl::Ssl,
    tcp: crate::tcp::Tcp,
    role: Role,
    stream: sockets::ClientSocket,
) {
    let limits = front.limits();
    let outcome = tokio::select! {
        outcome = handshake::handshake(ssl, tcp, role, limits.handshake()) => outcome,
        failure = connection.withdrawn() => Err(Failed::without_alert(failure)),
        () = subscriber::hung_up(&stream) => {
            front.runtime.connections.leave(&connection);
            return;
        }
    };
    let outcome = outcome.and_then(|established| {
        front.admit(&connection, established.tls.ssl()).map_err(Failed::without_alert).map(|()| established)
    });
    let result = match &outcome {
        Ok(established) => HandshakeResult { error: None, info: Some(established.info.clone()) },
        Err(failed) => HandshakeResult { error: Some(failed.failure.clone()), info: None },
    };
    let frame = to_frame(&result).unwrap_or_default();
    // The socket is fresh, and its buffer holds many such frames; where Lua has gone, the pump will see it.
    let _ = send(&stream, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    match outcome {
        Ok(established) => {
            front.counters.handshake_done(&connection.owner);
            Pump::new(Arc::clone(&front.runtime), connection, established.tls, stream, limits.shutdown())
                .start();
        }
        Err(failed) => {
            front.counters.handshake_failed(&connection.owner, &failed.failure);
            connection.record_end(failed.failure.clone());
            front.runtime.connections.leave(&connection);
            failed.part().await;
        }
    }
}

fn asks_in_lock_step() -> Failure {
    Failure::new(ErrorCode::Invalid, "a context that asks for its psk is for connections in lock-step mode")
}

fn unknown_context(number: u64) -> Failure {
    Failure::new(ErrorCode::Invalid, format!("context {number} is not one of this connection's"))
}

fn plain<T: Serialize>(id: u64, outcome: Outcome<T>) -> Answer {
    Answer { frame: encode(id, &outcome), descriptors: Vec::new() }
}

fn with_descriptor<T: Serialize>(id: u64, outcome: Outcome<(T, OwnedFd)>) -> Answer {
    match outcome {
        Ok((answer, descriptor)) => Answer { frame: encode(id, &Ok(answer)), descriptors: vec![descriptor] },
        Err(failure) => plain(id, Err::<Done, _>(failure)),
    }
}

fn encode<T: Serialize>(id: u64, outcome: &Outcome<T>) -> Vec<u8> {
    reply_frame(id, outcome).unwrap_or_else(|error| {
        tracing::error!("an answer cannot be written: {error}");
        let failure = Failure::new(ErrorCode::Internal, "the answer cannot be written");
        reply_frame::<Done>(id, &Err(failure)).unwrap_or_default()
    })
}
