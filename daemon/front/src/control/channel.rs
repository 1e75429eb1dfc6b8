//! Frames over a control connection: requests in, answers out, and descriptors with the frames that they came with.

use crate::control::{
    reply::{Answer, Answering},
    session::Session,
};
use crate::{
    authorization::{
        owner::Owner,
        quota::{Bound, Kind, QuotaGuard, Quotas},
    },
    control::{descriptors::Descriptors, turns::Turn},
    runtime::{closing, readiness, sockets::ClientSocket},
    services::Services,
};
use bytes::{Bytes, BytesMut};
use luassl_keeper_ipc::transport;
use luassl_protocol::{BadRequest, ErrorCode, FRAME_HEADER, Failure, Request, reply_frame, take_frame};
use luassl_settings::Limits;
use rustix::{io::Errno, net::SendFlags};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use tokio::{
    io::unix::AsyncFd,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

/// How often something is looked at that has no room.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// Descriptors that may wait for their frames on one control connection.
pub(super) const MAX_WAITING_DESCRIPTORS: usize = 16;

/// The body of a frame of a caller without a grant, in bytes: room for `hello`, and for a request that is refused.
const MAX_UNGRANTED_FRAME: u32 = 4 * 1024;

/// Answers of one control connection that may wait for their connections; with more, no request is read.
const MAX_PENDING: usize = 64;

/// How much one receive takes, in bytes. A larger frame is decoded where its owner's certificates are parsed.
pub(super) const CHUNK: usize = 16 * 1024;

/// One control connection's socket, with what has come over it.
pub(super) struct Channel {
    socket: AsyncFd<ClientSocket>,
    owner: Owner,
    quotas: Quotas,
    turn: Turn,
    /// Without one frames are small, and each has a deadline from the end of the one before.
    pub(super) has_grant: bool,
    /// Its part of the bound on bytes of frames.
    in_flight: Option<QuotaGuard>,
    buffer: BytesMut,
    /// The place in the stream of the buffer's first byte.
    pub(super) consumed: u64,
    /// When the next frame began, or when the first was to begin.
    pub(super) begun: Option<Instant>,
    pub(super) descriptors: Descriptors,
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
    pub(super) fn new(socket: ClientSocket, owner: Owner, quotas: Quotas, turn: Turn) -> io::Result<Self> {
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
    pub(super) async fn run(&mut self, services: &Services, session: &mut Session) -> io::Result<()> {
        let mut pending = JoinSet::new();
        loop {
            let limits = services.authority.limits();
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
            let id = match self.decode(services, &limits, frame).await? {
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
        services: &Services,
        limits: &Limits,
        frame: Bytes,
    ) -> io::Result<Result<(u64, Request), BadRequest>> {
        if frame.len() <= CHUNK {
            return Ok(Request::decode(&frame));
        }
        let decoded = services.parsing.run_frame(&self.owner, limits, move || Request::decode(&frame)).await;
        decoded.map_err(io::Error::other)
    }

    /// The next frame, and the place in the stream of its first byte; none at the end, or after a frame above the
    /// bound. A frame that has begun, and the first one, have a deadline. May be dropped and called again.
    pub(super) async fn next_frame(
        &mut self,
        limits: &Limits,
        introduced: bool,
    ) -> io::Result<Option<(u64, Bytes)>> {
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
    pub(super) fn claim(&mut self, first: u64, request: &Request) -> Vec<OwnedFd> {
        if takes_descriptor(request) { self.descriptors.claim(first) } else { Vec::new() }
    }

    /// Closes what no request took, where nobody waits for it, on this owner's account.
    pub(super) fn dispose(&self, descriptors: Vec<OwnedFd>) {
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

    pub(super) async fn refuse(
        &mut self,
        id: Option<u64>,
        failure: &Failure,
        deadline: Duration,
    ) -> io::Result<()> {
        let frame = reply_frame::<luassl_protocol::Done>(id.unwrap_or(0), &Err(failure.clone()))
            .map_err(io::Error::other)?;
        self.send(Answer { frame, descriptors: Vec::new() }, deadline).await
    }

    /// Sends an answer within the deadline; its descriptors ride on its first byte.
    pub(super) async fn send(&mut self, answer: Answer, deadline: Duration) -> io::Result<()> {
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
