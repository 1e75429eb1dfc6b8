//! A control connection: frames in, answers out, descriptors with the frames that they came with.

#[cfg(test)]
mod tests;

use super::{
    Front, closing,
    context::Principal,
    descriptors::Descriptors,
    operations::Session,
    owner::Owner,
    peer, policy,
    quota::{Bound, Kind, QuotaGuard, Quotas},
    readiness,
    sockets::ClientSocket,
    turns::Turn,
};
use bytes::{Bytes, BytesMut};
use luassl_keeper_ipc::transport;
use luassl_protocol::{BadRequest, ErrorCode, FRAME_HEADER, Failure, Request, reply_frame, take_frame};
use luassl_settings::Limits;
use rustix::{
    io::Errno,
    net::{SendFlags, SocketFlags, accept_with},
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::unix::AsyncFd,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

/// Descriptors that may wait for their frames on one control connection.
const MAX_WAITING_DESCRIPTORS: usize = 16;

/// Descriptors of clients, and sockets with such in them, that may wait to be closed before no new control connection is
/// taken from anybody. Connections of an owner with [too many](super::quota::MAX_UNCLOSED) are reset long before. A reset
/// connection with a descriptor in it costs one, and the kernel closes it at once but for files whose close waits for their
/// server (writes of a FUSE file system that are not done).
const MAX_UNCLOSED_IN_ALL: u64 = 16_384;

/// The body of a frame of a caller without a grant, in bytes: room for `hello`, and for a request that is refused.
const MAX_UNGRANTED_FRAME: u32 = 4 * 1024;

/// How often something is looked at that has no room.
const POLL: Duration = Duration::from_millis(10);

/// Answers of one control connection that may wait for their connections; with more, no request is read.
const MAX_PENDING: usize = 64;

/// How much one receive takes, in bytes. A larger frame is decoded where its owner's certificates are parsed.
pub(super) const CHUNK: usize = 16 * 1024;

/// Control connections that are accepted before the sockets of those that there are are looked at again.
const ACCEPTS_AT_A_TIME: usize = 16;

/// An answer, with the descriptors that ride on it.
pub(super) struct Answer {
    pub(super) frame: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// What comes of a request.
pub(super) enum Answering {
    /// Its answer.
    Now(Answer),
    /// It waits for a connection, and nothing else waits for it.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// Accepts control connections for ever; `name` is the named control socket's, or `control`. Before the first push
/// clients wait in the socket's backlog, which the kernel bounds: no bound of ours is known yet.
pub(super) async fn serve(front: Arc<Front>, name: Arc<str>, listening: OwnedFd) -> io::Result<()> {
    front.ready().await;
    rustix::io::ioctl_fionbio(&listening, true)?;
    let listening = readiness::register(listening)?;
    for accepted in 1_usize.. {
        if accepted.is_multiple_of(ACCEPTS_AT_A_TIME) {
            tokio::task::yield_now().await;
        }
        while front.quotas.waiting() >= MAX_UNCLOSED_IN_ALL {
            tokio::time::sleep(POLL).await;
        }
        let mut guard = listening.readable().await?;
        match accept_with(listening.get_ref(), SocketFlags::CLOEXEC) {
            Ok(socket) => welcome(&front, &name, ClientSocket::new(socket).dropped_in_passing()),
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

fn welcome(front: &Arc<Front>, name: &Arc<str>, socket: ClientSocket) {
    let principal = match principal(name, &socket) {
        Ok(principal) => principal,
        Err(error) => return tracing::debug!("a control connection has no credentials: {error}"),
    };
    let front = Arc::clone(front);
    let has_grant = policy::has_grant(&front.active().settings, principal.caller());
    let ungranted = Owner::ungranted();
    let account = front.quotas.account(if has_grant { &principal.owner } else { &ungranted });
    if !account.may_connect() {
        // Reset here, before a byte of it is received.
        drop(socket.with_account(account));
    } else if has_grant {
        tokio::spawn(async move { log_end(converse(&front, principal, socket).await) });
    } else if let Some(slot) = ungranted_slot(&front) {
        tokio::spawn(async move { log_end(refuse_all(&front, principal, socket, slot).await) });
    } else {
        // Likewise.
        drop(socket.with_account(account));
    }
}

fn log_end(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!("a control connection ended: {error}");
    }
}

fn principal(name: &Arc<str>, socket: &ClientSocket) -> io::Result<Principal> {
    let peer::Credentials { uid, gid, gids, pid } = peer::credentials(socket)?;
    Ok(Principal { owner: Owner { socket: Arc::clone(name), uid }, gid, gids: gids.into(), pid })
}

/// A part of the one account that all callers without a grant have together.
fn ungranted_slot(front: &Front) -> Option<QuotaGuard> {
    let bound = Bound { owner: front.limits().ungranted_connections, all: None };
    front.quotas.take(&Owner::ungranted(), Kind::Ungranted, 1, bound).ok()
}

async fn converse(front: &Arc<Front>, principal: Principal, socket: ClientSocket) -> io::Result<()> {
    // Nothing that comes before hello has a descriptor.
    let socket = socket.without_descriptors().with_account(front.quotas.account(&principal.owner));
    let turn = front.turns.of(&principal.owner);
    let mut channel = Channel::new(socket, principal.owner.clone(), front.quotas.clone(), turn)?;
    let limits = front.limits();
    let bound = Bound { owner: limits.control_connections_per_owner, all: Some(limits.control_connections) };
    let slot = match front.quotas.take(&principal.owner, Kind::ControlConnections, 1, bound) {
        Ok(slot) => slot,
        Err(failure) => return channel.refuse(None, &failure, limits.request()).await,
    };
    let mut session = Session::new(Arc::clone(front), principal, true);
    let outcome = channel.run(front, &mut session).await;
    drop(slot);
    outcome
}

/// Answers `hello`, and refuses everything else. Nothing of it is on the caller's own account: a user can have many.
async fn refuse_all(
    front: &Arc<Front>,
    principal: Principal,
    socket: ClientSocket,
    slot: QuotaGuard,
) -> io::Result<()> {
    let all = Owner::ungranted();
    let socket = socket.without_descriptors().with_account(front.quotas.account(&all));
    let turn = front.turns.of(&all);
    let mut channel = Channel::new(socket, all, front.quotas.clone(), turn)?;
    channel.has_grant = false;
    let mut session = Session::new(Arc::clone(front), principal, false);
    let outcome = channel.run(front, &mut session).await;
    drop(channel);
    drop(slot);
    outcome
}

struct Channel {
    socket: AsyncFd<ClientSocket>,
    owner: Owner,
    quotas: Quotas,
    turn: Turn,
    /// Without one frames are small, and each has a deadline from the end of the one before.
    has_grant: bool,
    /// Its part of the bound on bytes of frames.
    in_flight: Option<QuotaGuard>,
    buffer: BytesMut,
    /// The place in the stream of the buffer's first byte.
    consumed: u64,
    /// When the next frame began, or when the first was to begin.
    begun: Option<Instant>,
    descriptors: Descriptors,
}

/// Whether a request needs a descriptor.
fn takes_descriptor(request: &Request) -> bool {
    match request {
        Request::Connect(_) => true,
        Request::Bind(bind) => bind.listener.is_none(),
        _ => false,
    }
}

impl Channel {
    fn new(socket: ClientSocket, owner: Owner, quotas: Quotas, turn: Turn) -> io::Result<Self> {
        let socket = readiness::register(socket)?;
        let (buffer, descriptors) = (BytesMut::new(), Descriptors::default());
        let (has_grant, in_flight) = (true, None);
        Ok(Self {
            socket,
            owner,
            quotas,
            turn,
            has_grant,
            in_flight,
            buffer,
            consumed: 0,
            begun: None,
            descriptors,
        })
    }

    /// Reads requests and answers them until the client goes: one after the other, except those that wait for a
    /// connection.
    async fn run(&mut self, front: &Arc<Front>, session: &mut Session) -> io::Result<()> {
        let mut pending = JoinSet::new();
        loop {
            let limits = front.limits();
            let next = tokio::select! {
                Some(answered) = pending.join_next() => {
                    self.send(answered.map_err(io::Error::other)?, limits.request()).await?;
                    continue;
                }
                next = self.next_frame(&limits, session.is_introduced()), if pending.len() < MAX_PENDING => next?,
            };
            let Some((first, frame)) = next else {
                // A client that has only ended its own side still reads.
                while let Some(answered) = pending.join_next().await {
                    self.send(answered.map_err(io::Error::other)?, limits.request()).await?;
                }
                return Ok(());
            };
            let size = frame.len() as u64;
            let id = match self.decode(front, &limits, frame).await? {
                Ok((id, request)) => {
                    let mut descriptors = self.claim(first, &request);
                    // Boxed, since it is larger than all that a connection needs between its requests.
                    let answering = Box::pin(session.answer(id, request, size, &mut descriptors)).await;
                    self.dispose(descriptors);
                    match answering {
                        Answering::Now(answer) => self.send(answer, limits.request()).await?,
                        Answering::Later(answer) => drop(pending.spawn(answer)),
                    }
                    Some(id)
                }
                Err(bad) => {
                    self.refuse(bad.id, &Failure::from(&bad.source), limits.request()).await?;
                    bad.id
                }
            };
            let unclaimed = self.descriptors.unclaimed(self.consumed);
            self.dispose(unclaimed);
            if id.is_none() || !session.is_introduced() {
                return Ok(());
            }
            if self.has_grant {
                self.socket.get_mut().take_descriptors();
            }
        }
    }

    /// Decodes a frame; a large one where it holds up nobody else.
    async fn decode(
        &self,
        front: &Front,
        limits: &Limits,
        frame: Bytes,
    ) -> io::Result<Result<(u64, Request), BadRequest>> {
        if frame.len() <= CHUNK {
            return Ok(Request::decode(&frame));
        }
        let decoded = front.parsing.run_frame(&self.owner, limits, move || Request::decode(&frame)).await;
        decoded.map_err(io::Error::other)
    }

    /// The next frame, and the place in the stream of its first byte; none at the end, or after a frame above the
    /// bound. A frame that has begun, and the first one, have a deadline. May be dropped and called again.
    async fn next_frame(&mut self, limits: &Limits, introduced: bool) -> io::Result<Option<(u64, Bytes)>> {
        loop {
            let most = self.frame_bytes(limits) as usize;
            // Also for what was received together with the frame before.
            self.turn.wait().await;
            match take_frame(&mut self.buffer, most) {
                Ok(Some(frame)) => {
                    let first = self.consumed;
                    self.consumed += (FRAME_HEADER + frame.len()) as u64;
                    self.begun = None;
                    return Ok(Some((first, frame)));
                }
                Ok(None) => {}
                Err(error) => {
                    self.refuse(None, &Failure::from(&error), limits.request()).await?;
                    return Ok(None);
                }
            }
            let may_rest = introduced && self.has_grant && self.buffer.is_empty();
            if self.begun.is_none() && !may_rest {
                self.begun = Some(Instant::now());
            }
            if !self.receive(limits, self.begun.map(|begun| begun + limits.request())).await? {
                return Ok(None);
            }
        }
    }

    /// The descriptor that came with a request, where it needs one.
    fn claim(&mut self, first: u64, request: &Request) -> Vec<OwnedFd> {
        if takes_descriptor(request) { self.descriptors.claim(first) } else { Vec::new() }
    }

    /// Closes what no request took, where nobody waits for it, on this owner's account.
    fn dispose(&self, descriptors: Vec<OwnedFd>) {
        closing::close(descriptors, Some(&self.quotas.account(&self.owner)));
    }

    /// Receives some bytes, by the deadline where there is one; false at the end.
    async fn receive(&mut self, limits: &Limits, deadline: Option<Instant>) -> io::Result<bool> {
        let Some(deadline) = deadline else { return self.receive_some(limits).await };
        timeout_at(deadline, self.receive_some(limits)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "half a frame, or no hello, within [limits] request")
        })?
    }

    /// The bound on a frame's body.
    fn frame_bytes(&self, limits: &Limits) -> u32 {
        if self.has_grant { limits.frame_bytes } else { limits.frame_bytes.min(MAX_UNGRANTED_FRAME) }
    }

    async fn receive_some(&mut self, limits: &Limits) -> io::Result<bool> {
        let most = CHUNK.min(self.frame_bytes(limits) as usize + FRAME_HEADER);
        let bound = in_flight_bound(limits);
        loop {
            // What the frames before had is given back here, when they have been answered.
            self.charge(self.buffer.len(), bound)?;
            let mut guard = self.socket.readable().await?;
            let amount = (self.buffer.len() + most) as u64;
            take_room(&mut self.in_flight, &self.quotas, &self.owner, amount, bound).await;
            match receive_chunk(self.socket.get_ref(), most) {
                Ok((bytes, descriptors)) => {
                    self.keep(&bytes, descriptors);
                    if self.descriptors.len() <= MAX_WAITING_DESCRIPTORS {
                        return Ok(!bytes.is_empty());
                    }
                    return self.refuse(None, &too_many(), limits.request()).await.map(|()| false);
                }
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::MFILE) => {
                    return self.refuse(None, &too_many(), limits.request()).await.map(|()| false);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives back what is more than `bytes`.
    fn charge(&mut self, bytes: usize, bound: Bound) -> io::Result<()> {
        match &mut self.in_flight {
            Some(_) if bytes == 0 => self.in_flight = None,
            Some(slot) => slot.resize(bytes as u64, bound).map_err(io::Error::other)?,
            None => {}
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) {
        let begin = self.consumed + self.buffer.len() as u64;
        self.buffer.extend_from_slice(bytes);
        let slot =
            (!descriptors.is_empty()).then(|| self.quotas.account(&self.owner).waiting(descriptors.len()));
        self.descriptors.arrived(begin, begin + bytes.len() as u64, descriptors, slot);
    }

    async fn refuse(&mut self, id: Option<u64>, failure: &Failure, deadline: Duration) -> io::Result<()> {
        let frame = reply_frame::<luassl_protocol::Done>(id.unwrap_or(0), &Err(failure.clone()))
            .map_err(io::Error::other)?;
        self.send(Answer { frame, descriptors: Vec::new() }, deadline).await
    }

    /// Sends an answer within the deadline; its descriptors ride on its first byte.
    async fn send(&mut self, answer: Answer, deadline: Duration) -> io::Result<()> {
        timeout(deadline, self.send_all(answer))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answers"))?
    }

    async fn send_all(&mut self, answer: Answer) -> io::Result<()> {
        let mut descriptors: Vec<_> = answer.descriptors.iter().map(AsFd::as_fd).collect();
        let mut rest = &answer.frame[..];
        while !rest.is_empty() {
            match transport::send(self.socket.get_ref(), rest, &descriptors, SendFlags::DONTWAIT) {
                Ok(count) => {
                    descriptors.clear();
                    rest = &rest[count..];
                }
                Err(Errno::WOULDBLOCK) => self.socket.writable().await?.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// How many bytes of frames may be on their way. One frame always has room, whatever the configuration says.
fn in_flight_bound(limits: &Limits) -> Bound {
    let one = limits.frame_bytes.saturating_add(2 * CHUNK as u32);
    Bound {
        owner: limits.frame_bytes_in_flight_per_owner.max(one),
        // Half of it is within what the reserve leaves.
        all: Some(limits.frame_bytes_in_flight.max(one.saturating_mul(2))),
    }
}

/// Takes a part of that bound, or makes the one that is there as large; waits while there is no room. A frame that has
/// begun waits by its own deadline.
async fn take_room(slot: &mut Option<QuotaGuard>, quotas: &Quotas, owner: &Owner, amount: u64, bound: Bound) {
    loop {
        let taken = match slot {
            Some(slot) => slot.resize(amount, bound),
            None => quotas.attempt(owner, Kind::FrameBytes, amount, bound).map(|taken| *slot = Some(taken)),
        };
        if taken.is_ok() {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Receives once. The room for it is on the stack, and nothing of it in a connection that waits.
fn receive_chunk(socket: &ClientSocket, most: usize) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut chunk = [0; CHUNK];
    let received = socket.receive_all(&mut chunk[..most.min(CHUNK)])?;
    Ok((chunk[..received.len].to_vec(), received.descriptors))
}

fn too_many() -> Failure {
    Failure::new(
        ErrorCode::Descriptor,
        "more descriptors came than can be taken: send a request that needs one with one alone, and close others",
    )
}

impl Drop for Channel {
    /// Descriptors that no frame claimed are as hostile as any.
    fn drop(&mut self) {
        let unclaimed = self.descriptors.unclaimed(u64::MAX);
        self.dispose(unclaimed);
    }
}
