//! Frames over a control connection: requests in, answers out, and descriptors with the frames that they arrived with.

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

/// The interval at which a task that waits for room checks again.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// The number of descriptors that may wait for their frames on one control connection.
pub(super) const MAX_WAITING_DESCRIPTORS: usize = 16;

/// The maximum size of a frame's body from a caller without a grant, in bytes. This is enough for `hello`, and for a
/// request that is refused.
const MAX_UNGRANTED_FRAME: u32 = 4 * 1024;

/// The number of answers of one control connection that may wait for their connections. Above it no request is read.
const MAX_PENDING: usize = 64;

/// The maximum number of bytes of one receive. A larger frame is decoded where its owner's certificates are parsed.
pub(super) const CHUNK: usize = 16 * 1024;

/// The socket of one control connection, with the data received from it.
pub(super) struct Channel {
    socket: AsyncFd<ClientSocket>,
    owner: Owner,
    quotas: Quotas,
    turn: Turn,
    /// Whether the caller has a grant. Without a grant frames are small, and each frame has a deadline from the end of
    /// the previous one.
    pub(super) has_grant: bool,
    /// Its part of the limit on bytes of frames.
    in_flight: Option<QuotaGuard>,
    buffer: BytesMut,
    /// The position in the stream of the buffer's first byte.
    pub(super) consumed: u64,
    /// The time at which the next frame began, or at which the first frame was expected to begin.
    pub(super) begun: Option<Instant>,
    pub(super) descriptors: Descriptors,
}

/// Returns whether a request needs a descriptor.
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

    /// Reads requests and answers them until the client disconnects. The requests are answered one after the other,
    /// except those that wait for a connection.
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
                // A client that has shut down only its writing side can still read.
                while let Some(answered) = pending.join_next().await {
                    self.send(answered.map_err(io::Error::other)?, limits.request()).await?;
                }
                return Ok(());
            };
            let size = frame.len() as u64;
            let id = match self.decode(services, &limits, frame).await? {
                Ok((id, request)) => {
                    let mut descriptors = self.claim(first, &request);
                    // Boxed, because the future is larger than all other memory that a connection needs between its
                    // requests.
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

    /// Decodes a frame. A large frame is decoded on a thread that does not delay other work.
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

    /// Returns the next frame, and the position in the stream of its first byte; `None` at the end of the stream, or
    /// after a frame above the limit. The first frame, and a frame that has begun, have a deadline. The future may be
    /// dropped and the function called again.
    pub(super) async fn next_frame(
        &mut self,
        limits: &Limits,
        introduced: bool,
    ) -> io::Result<Option<(u64, Bytes)>> {
        loop {
            let most = self.frame_bytes(limits) as usize;
            // Also for data that was received together with the previous frame.
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

    /// Returns the descriptor that arrived with a request, if the request needs one.
    pub(super) fn claim(&mut self, first: u64, request: &Request) -> Vec<OwnedFd> {
        if takes_descriptor(request) { self.descriptors.claim(first) } else { Vec::new() }
    }

    /// Closes the descriptors that no request took, on this owner's account and on a thread where no other task waits
    /// for it.
    pub(super) fn dispose(&self, descriptors: Vec<OwnedFd>) {
        closing::close(descriptors, Some(&self.quotas.account(&self.owner)));
    }

    /// Receives some bytes, before the deadline if there is one. Returns false at the end of the stream.
    async fn receive(&mut self, limits: &Limits, deadline: Option<Instant>) -> io::Result<bool> {
        let Some(deadline) = deadline else { return self.receive_some(limits).await };
        timeout_at(deadline, self.receive_some(limits)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "half a frame, or no hello, within [limits] request")
        })?
    }

    /// Returns the limit on the size of a frame's body.
    fn frame_bytes(&self, limits: &Limits) -> u32 {
        if self.has_grant { limits.frame_bytes } else { limits.frame_bytes.min(MAX_UNGRANTED_FRAME) }
    }

    async fn receive_some(&mut self, limits: &Limits) -> io::Result<bool> {
        let most = CHUNK.min(self.frame_bytes(limits) as usize + FRAME_HEADER);
        let bound = in_flight_bound(limits);
        loop {
            // The part that the previous frames held is returned here, after these frames have been answered.
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

    /// Returns the held part that exceeds `bytes`.
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

    /// Sends an answer before the deadline. Its descriptors are attached to its first byte.
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

/// Returns the limit on the bytes of frames in flight. One frame always has room, whatever the configuration.
fn in_flight_bound(limits: &Limits) -> Bound {
    let one = limits.frame_bytes.saturating_add(2 * CHUNK as u32);
    Bound {
        owner: limits.frame_bytes_in_flight_per_owner.max(one),
        // Half of it is within what the reserve leaves.
        all: Some(limits.frame_bytes_in_flight.max(one.saturating_mul(2))),
    }
}

/// Takes a part of the limit on bytes in flight, or resizes the existing part to this amount. Waits while there is no
/// room. The wait of a frame that has begun ends at the frame's deadline.
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

/// Receives once. The buffer is on the stack, so a waiting connection holds no memory for it.
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
    /// Descriptors that no frame claimed are as hostile as any other.
    fn drop(&mut self) {
        let unclaimed = self.descriptors.unclaimed(u64::MAX);
        self.dispose(unclaimed);
    }
}
