//! One control connection: sends and receives frames, one request at a time.

use crate::deadline::{Deadline, Timeout};
use crate::error::Error;
use crate::transport::{receive, send};
use bytes::{Bytes, BytesMut};
use luassl_protocol::{
    DecodeError, FRAME_HEADER, Failure, Hello, LuaCode, MAX_FRAME, Request, VERSION, Welcome, decode_reply,
    feature, reply_id, take_frame,
};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt,
};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// The deadline of a request if the program's own timeout is not shorter. It is longer than the daemon's own
/// deadline of 10 s, so that an answer of the daemon arrives in time.
pub(crate) const REQUEST: Duration = Duration::from_secs(15);

/// The interval in which a receive checks its deadline.
const TICK: Duration = Duration::from_millis(500);

/// The number of bytes of one receive. Most answers are smaller.
const CHUNK: usize = 4096;

/// An answer and the descriptor that came with it.
pub(crate) struct Answer<T> {
    pub(crate) fields: T,
    pub(crate) fd: Option<OwnedFd>,
}

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The daemon closed the connection before the request was sent, so the request had no effect.
    #[error("the control connection was closed")]
    NotSent,
    /// The connection ended before the answer arrived.
    #[error("the daemon went away")]
    Lost,
    /// There was no answer in time, and the connection can no longer be used.
    #[error("timeout: the daemon did not answer")]
    Timeout,
    /// There was no answer in time. A late answer is ignored.
    #[error("timeout: the daemon did not answer")]
    Late,
    /// The request exceeds the daemon's frame limit.
    #[error("{what} of {length} bytes is above the daemon's limit of {limit} ([limits] frame_bytes)")]
    TooLarge { what: String, length: usize, limit: usize },
    /// The other side does not implement the protocol.
    #[error("the daemon sent a malformed answer: {0}")]
    Garbage(String),
    /// The daemon refused the request.
    #[error("{0}")]
    Failed(Failure),
}

impl CallError {
    /// Returns whether the connection can no longer be used.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::Failed(_) | Self::TooLarge { .. } | Self::Late)
    }
}

impl From<DecodeError> for CallError {
    fn from(error: DecodeError) -> Self {
        Self::Garbage(error.to_string())
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Failed(failure) => return failure.clone().into(),
            CallError::Timeout | CallError::Late => LuaCode::Timeout,
            CallError::TooLarge { .. } => LuaCode::Misuse,
            CallError::NotSent | CallError::Lost | CallError::Garbage(_) => LuaCode::Daemon,
        };
        Self::new(code, error.to_string())
    }
}

/// A control connection after `hello`.
pub(crate) struct Link {
    socket: OwnedFd,
    next_id: u64,
    frame_limit: usize,
    inbox: BytesMut,
    /// The descriptor that was received with the data in the inbox. It belongs to the awaited answer, because
    /// no other answer has a descriptor.
    descriptor: Option<OwnedFd>,
}

impl Link {
    /// Connects and sends `hello` with the name `client`.
    pub(crate) fn open(path: &Path, client: &str, deadline: Deadline) -> Result<Self, Error> {
        let socket = dial(path).map_err(|errno| unreachable(path, errno))?;
        let inbox = BytesMut::new();
        let mut link = Self { socket, next_id: 1, frame_limit: MAX_FRAME, inbox, descriptor: None };
        let hello =
            Hello { version: VERSION, features: feature::ALL.map(Into::into).into(), client: client.into() };
        let answer = link.call::<Welcome>(&Request::Hello(hello), None, deadline);
        let welcome = answer.map_err(|error| match error {
            CallError::NotSent => Error::from(CallError::Lost),
            other => Error::from(other),
        })?;
        link.frame_limit = usize::try_from(welcome.fields.frame_limit).unwrap_or(usize::MAX);
        Ok(link)
    }

    /// Sends a request and waits for its answer. Answers to [`Link::tell`] are ignored.
    pub(crate) fn call<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<Answer<T>, CallError> {
        let id = self.tell(request, fd, deadline)?;
        let body = self.answer_to(id, deadline).map_err(|error| match error {
            // A late descriptor would be taken for the descriptor of the next answer.
            CallError::Timeout if !brings_descriptor(request) => CallError::Late,
            other => other,
        })?;
        let (_, outcome) = decode_reply(&body)?;
        let fd = self.descriptor.take();
        Ok(Answer { fields: outcome.map_err(CallError::Failed)?, fd })
    }

    /// Waits for the answer to a request sent with [`Link::tell`]. A failure in the answer is ignored.
    pub(crate) fn settle(&mut self, id: u64, deadline: Deadline) -> Result<(), CallError> {
        self.answer_to(id, deadline).map(drop)
    }

    /// Returns the answer to one request and ignores others.
    fn answer_to(&mut self, id: u64, deadline: Deadline) -> Result<Bytes, CallError> {
        loop {
            let body = self.frame(deadline)?;
            if reply_id(&body)? == id {
                return Ok(body);
            }
        }
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn tell(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<u64, CallError> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = request.to_frame(id).map_err(|error| CallError::Garbage(error.to_string()))?;
        let (length, limit) = (frame.len() - FRAME_HEADER, self.frame_limit);
        if length > limit {
            return Err(CallError::TooLarge { what: "a request".to_owned(), length, limit });
        }
        self.send_all(&frame, fd, deadline)?;
        Ok(id)
    }

    fn send_all(
        &self,
        frame: &[u8],
        mut fd: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<(), CallError> {
        let mut sent = 0;
        while sent < frame.len() {
            match send(self.socket.as_fd(), &frame[sent..], fd, SendFlags::DONTWAIT) {
                Ok(length) => {
                    sent += length;
                    fd = None;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, deadline)?,
                Err(_) if sent == 0 => return Err(CallError::NotSent),
                Err(_) => return Err(CallError::Lost),
            }
        }
        Ok(())
    }

    fn frame(&mut self, deadline: Deadline) -> Result<Bytes, CallError> {
        loop {
            if let Some(body) = take_frame(&mut self.inbox, MAX_FRAME)? {
                return Ok(body);
            }
            self.fill(deadline)?;
        }
    }

    /// Receives available data. If the deadline is far away, the socket's own timeout saves a call of
    /// poll(2).
    fn fill(&mut self, deadline: Deadline) -> Result<(), CallError> {
        let mut buffer = [0; CHUNK];
        loop {
            let blocking = deadline.is_beyond(TICK);
            if !blocking {
                self.wait(PollFlags::IN, deadline)?;
            }
            let flags = if blocking { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            match receive(self.socket.as_fd(), &mut buffer, flags) {
                Ok(received) if received.truncated => {
                    return Err(CallError::Garbage("too many open descriptors in this process".into()));
                }
                Ok(received) if received.length == 0 => return Err(CallError::Lost),
                Ok(received) => {
                    self.inbox.extend_from_slice(&buffer[..received.length]);
                    self.descriptor = received.fd.or(self.descriptor.take());
                    return Ok(());
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return Err(CallError::Lost),
            }
        }
    }

    fn wait(&self, flags: PollFlags, deadline: Deadline) -> Result<(), CallError> {
        match deadline.wait(self.socket.as_fd(), flags) {
            Ok(true) => Ok(()),
            Ok(false) => Err(CallError::Timeout),
            Err(_) => Err(CallError::Lost),
        }
    }
}

fn brings_descriptor(request: &Request) -> bool {
    matches!(request, Request::Connect(_) | Request::Bind(_))
}

fn dial(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The connect of a Unix socket waits while the backlog is full, up to the send timeout.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(REQUEST))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(TICK))?;
    let address = SocketAddrUnix::new(path)?;
    rustix::io::retry_on_intr(|| connect(&socket, &address))?;
    Ok(socket)
}

fn unreachable(path: &Path, errno: Errno) -> Error {
    let path = path.display();
    match errno {
        Errno::NOENT | Errno::CONNREFUSED => Error::new(
            LuaCode::Daemon,
            format!("no luassld at {path}: start it, or set LUASSL_SOCKET to the path of its socket"),
        ),
        Errno::ACCESS | Errno::PERM => Error::new(
            LuaCode::Refused,
            format!(
                "no permission to connect to {path}: the mode or group of luassld's socket excludes this user"
            ),
        ),
        Errno::AGAIN => {
            Error::new(LuaCode::Timeout, format!("timeout: luassld at {path} does not accept connections"))
        }
        errno => Error::new(LuaCode::Daemon, format!("cannot connect to luassld at {path}: {errno}")),
    }
}

/// Returns the deadline for callers that have no timeout of their own.
pub(crate) fn request_deadline() -> Deadline {
    Timeout::After(REQUEST).deadline()
}

#[cfg(test)]
mod tests {
    use crate::control::unreachable;
    use luassl_protocol::LuaCode;
    use rustix::io::Errno;
    use std::path::Path;

    #[test]
    fn a_socket_that_cannot_be_reached_is_named_with_the_remedy() {
        for (errno, code, remedy) in [
            (Errno::NOENT, LuaCode::Daemon, "LUASSL_SOCKET"),
            (Errno::CONNREFUSED, LuaCode::Daemon, "LUASSL_SOCKET"),
            (Errno::ACCESS, LuaCode::Refused, "mode or group"),
        ] {
            let error = unreachable(Path::new("/a/luassl.sock"), errno);
            assert_eq!(error.code, code);
            assert!(error.message.contains("/a/luassl.sock"), "{}", error.message);
            assert!(error.message.contains(remedy), "{}", error.message);
        }
    }
}
