//! A control connection: frames in, answers out, descriptors with the frames that they came with.

#[cfg(test)]
mod tests;

use super::{
    Front, closing,
    context::Asker,
    descriptors::Descriptors,
    operations::Session,
    owner::Owner,
    peer,
    quota::{Bound, Kind, Quotas},
    readiness,
    sockets::ClientSocket,
};
use crate::settings::Limits;
use bytes::{Bytes, BytesMut};
use luassl_keeper_ipc::transport::{self, DESCRIPTORS_MAX, RecvError};
use luassl_protocol::{ErrorCode, FRAME_HEADER, Failure, Request, reply_frame, take_frame};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with},
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

/// Descriptors of one owner that may wait to be closed (a close may last as long as a client likes); an owner with
/// more is not heard until some are.
const MAX_CLOSING: Bound = Bound { owner: 64, all: None };

/// How often that is looked at.
const CLOSING_POLL: Duration = Duration::from_millis(10);

/// Answers of one control connection that may wait for their connections; with more, no request is read.
const MAX_PENDING: usize = 64;

/// How much one receive takes, in bytes.
const CHUNK: usize = 16 * 1024;

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
    loop {
        let mut guard = listening.readable().await?;
        match accept_with(listening.get_ref(), SocketFlags::CLOEXEC) {
            Ok(socket) => welcome(&front, &name, ClientSocket::new(socket)),
            Err(Errno::WOULDBLOCK) => guard.clear_ready(),
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("accept on control socket \"{name}\" failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn welcome(front: &Arc<Front>, name: &Arc<str>, socket: ClientSocket) {
    let front = Arc::clone(front);
    let name = Arc::clone(name);
    tokio::spawn(async move {
        if let Err(error) = converse(&front, name, socket).await {
            tracing::debug!("a control connection ended: {error}");
        }
    });
}

async fn converse(front: &Arc<Front>, name: Arc<str>, socket: ClientSocket) -> io::Result<()> {
    let credentials = peer::credentials(&socket)?;
    let owner = Owner { socket: name, uid: credentials.uid };
    let socket = socket.charged_to(front.quotas.account(&owner));
    let mut channel = Channel::new(socket, owner.clone(), front.quotas.clone())?;
    let limits = front.limits();
    let bound = Bound { owner: limits.control_connections_per_owner, all: Some(limits.control_connections) };
    let slot = match front.quotas.take(&owner, Kind::ControlConnections, 1, bound) {
        Ok(slot) => slot,
        Err(failure) => return channel.refuse(None, &failure, limits.request()).await,
    };
    let peer::Credentials { gid, gids, pid, .. } = credentials;
    let asker = Asker { owner, gid, gids: gids.into(), pid };
    let mut session = Session::new(Arc::clone(front), asker);
    let outcome = channel.run(front, &mut session).await;
    drop(slot);
    outcome
}

struct Channel {
    socket: AsyncFd<ClientSocket>,
    owner: Owner,
    quotas: Quotas,
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
    fn new(socket: ClientSocket, owner: Owner, quotas: Quotas) -> io::Result<Self> {
        let socket = readiness::register(socket)?;
        let (buffer, descriptors) = (BytesMut::new(), Descriptors::default());
        Ok(Self { socket, owner, quotas, buffer, consumed: 0, begun: None, descriptors })
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
            let id = match Request::decode(&frame) {
                Ok((id, request)) => {
                    let mut descriptors = self.claim(first, &request);
                    let answering = session.answer(id, request, &mut descriptors).await;
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
        }
    }

    /// The next frame, and the place in the stream of its first byte; none at the end, or after a frame above the
    /// bound. A frame that has begun, and the first one, have a deadline. May be dropped and called again.
    async fn next_frame(&mut self, limits: &Limits, introduced: bool) -> io::Result<Option<(u64, Bytes)>> {
        loop {
            match take_frame(&mut self.buffer, limits.frame_bytes as usize) {
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
            if self.begun.is_none() && !(introduced && self.buffer.is_empty()) {
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
        for descriptor in descriptors {
            closing::close(descriptor, Some(&self.quotas.account(&self.owner)));
        }
    }

    /// Receives some bytes, by the deadline where there is one; false at the end.
    async fn receive(&mut self, limits: &Limits, deadline: Option<Instant>) -> io::Result<bool> {
        let Some(deadline) = deadline else { return self.receive_some(limits).await };
        timeout_at(deadline, self.receive_some(limits)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "half a frame, or no hello, within [limits] request")
        })?
    }

    async fn receive_some(&mut self, limits: &Limits) -> io::Result<bool> {
        while self.quotas.attempt(&self.owner, Kind::Closing, 1, MAX_CLOSING).is_err() {
            tokio::time::sleep(CLOSING_POLL).await;
        }
        let mut chunk = [0; CHUNK];
        loop {
            let mut guard = self.socket.readable().await?;
            let flags = RecvFlags::DONTWAIT;
            match transport::recv(self.socket.get_ref(), &mut chunk, DESCRIPTORS_MAX, flags) {
                Ok(received) => {
                    self.keep(&chunk[..received.len], received.descriptors);
                    if self.descriptors.len() <= MAX_WAITING_DESCRIPTORS {
                        return Ok(received.len > 0);
                    }
                    return self.refuse(None, &too_many(), limits.request()).await.map(|()| false);
                }
                Err(RecvError::System(Errno::WOULDBLOCK)) => guard.clear_ready(),
                Err(RecvError::DescriptorsLost) => {
                    return self.refuse(None, &too_many(), limits.request()).await.map(|()| false);
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
    }

    fn keep(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) {
        let begin = self.consumed + self.buffer.len() as u64;
        self.buffer.extend_from_slice(bytes);
        self.descriptors.arrived(begin, begin + bytes.len() as u64, descriptors);
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
