//! One control connection: frames out, frames in, one request at a time.

use crate::deadline::{Deadline, Timeout};
use crate::error::Error;
use crate::transport::{receive, send};
use luassl_protocol::{
    FRAME_HEADER, Failure, Hello, LuaCode, MAX_FRAME, Request, VERSION, Welcome, decode_reply, from_body,
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

/// How long any request may take where the program's own timeout is not shorter. Above the daemon's own deadline of
/// 10 s, so that its answer arrives where there is one.
pub(crate) const REQUEST: Duration = Duration::from_secs(15);

/// An answer and the descriptor that came with it.
pub(crate) struct Answer<T> {
    pub(crate) fields: T,
    pub(crate) fd: Option<OwnedFd>,
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The other side had closed the connection before the request was sent: nothing has happened.
    #[error("the control connection was closed")]
    NotSent,
    /// The connection ended before the answer came.
    #[error("the daemon went away")]
    Lost,
    /// No answer in time.
    #[error("timeout: the daemon did not answer")]
    Timeout,
    /// The request is above what the daemon reads.
    #[error("a request of {length} bytes is above the daemon's limit of {limit}")]
    TooLarge { length: usize, limit: usize },
    /// The other side does not speak the protocol.
    #[error("the answer of the daemon cannot be read: {0}")]
    Garbage(String),
    /// The daemon says no.
    #[error("{0}")]
    Failed(Failure),
}

impl CallError {
    /// Whether the connection is of no more use. After a timeout a late answer would be taken for the next one's.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Self::Failed(_) | Self::TooLarge { .. })
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Failed(failure) => failure.code.lua(),
            CallError::Timeout => LuaCode::Timeout,
            CallError::TooLarge { .. } => LuaCode::Misuse,
            CallError::NotSent | CallError::Lost | CallError::Garbage(_) => LuaCode::Daemon,
        };
        Self::new(code, error.to_string())
    }
}

/// A control connection that has said hello.
pub(crate) struct Link {
    socket: OwnedFd,
    next_id: u64,
    frame_limit: usize,
}

impl Link {
    /// Connects and says hello as `client`.
    pub(crate) fn open(path: &Path, client: &str, deadline: Deadline) -> Result<Self, Error> {
        let socket = dial(path).map_err(|errno| unreachable(path, errno))?;
        let mut link = Self { socket, next_id: 1, frame_limit: MAX_FRAME };
        let hello = Hello { version: VERSION, features: vec!["stream".into()], client: client.into() };
        let answer = link.call::<Welcome>(&Request::Hello(hello), None, deadline);
        let welcome = answer.map_err(|error| match error {
            CallError::NotSent => Error::from(CallError::Lost),
            other => Error::from(other),
        })?;
        link.frame_limit = usize::try_from(welcome.fields.frame_limit).unwrap_or(usize::MAX);
        Ok(link)
    }

    /// Sends a request and waits for its answer. Answers to [`Link::tell`] are passed over.
    pub(crate) fn call<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<Answer<T>, CallError> {
        let id = self.tell(request, fd, deadline)?;
        loop {
            let (body, fd) = self.frame(deadline)?;
            let head: Id = from_body(&body).map_err(|error| CallError::Garbage(error.to_string()))?;
            if head.id == id {
                let (_, outcome) =
                    decode_reply(&body).map_err(|error| CallError::Garbage(error.to_string()))?;
                return Ok(Answer { fields: outcome.map_err(CallError::Failed)?, fd });
            }
        }
    }

    /// Sends a request whose answer nobody waits for.
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
            return Err(CallError::TooLarge { length, limit });
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

    fn frame(&self, deadline: Deadline) -> Result<(Vec<u8>, Option<OwnedFd>), CallError> {
        let mut header = [0; FRAME_HEADER];
        let fd = self.fill(&mut header, deadline)?;
        let length = u32::from_be_bytes(header) as usize;
        if length > MAX_FRAME {
            return Err(CallError::Garbage(format!("a frame of {length} bytes")));
        }
        let mut body = vec![0; length];
        let late = self.fill(&mut body, deadline)?;
        Ok((body, fd.or(late)))
    }

    fn fill(&self, buffer: &mut [u8], deadline: Deadline) -> Result<Option<OwnedFd>, CallError> {
        let mut filled = 0;
        let mut descriptor = None;
        while filled < buffer.len() {
            match receive(self.socket.as_fd(), &mut buffer[filled..], RecvFlags::DONTWAIT) {
                Ok(received) if received.truncated => {
                    return Err(CallError::Garbage("too many open descriptors in this process".into()));
                }
                Ok(received) if received.length == 0 => return Err(CallError::Lost),
                Ok(received) => {
                    filled += received.length;
                    descriptor = descriptor.or(received.fd);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, deadline)?,
                Err(_) => return Err(CallError::Lost),
            }
        }
        Ok(descriptor)
    }

    fn wait(&self, flags: PollFlags, deadline: Deadline) -> Result<(), CallError> {
        match deadline.wait(self.socket.as_fd(), flags) {
            Ok(true) => Ok(()),
            Ok(false) => Err(CallError::Timeout),
            Err(_) => Err(CallError::Lost),
        }
    }
}

#[derive(serde::Deserialize)]
struct Id {
    id: u64,
}

fn dial(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A Unix socket's connect waits while the backlog is full, for as long as the send timeout says.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(REQUEST))?;
    let address = SocketAddrUnix::new(path)?;
    rustix::io::retry_on_intr(|| connect(&socket, &address))?;
    Ok(socket)
}

fn unreachable(path: &Path, errno: Errno) -> Error {
    let path = path.display();
    match errno {
        Errno::NOENT | Errno::CONNREFUSED => Error::new(
            LuaCode::Daemon,
            format!("no luassld at {path}: start it, or say where it is with LUASSL_SOCKET"),
        ),
        Errno::ACCESS | Errno::PERM => Error::new(
            LuaCode::Refused,
            format!(
                "no permission to connect to {path}: the mode or group of luassld's socket keeps this user out"
            ),
        ),
        Errno::AGAIN => {
            Error::new(LuaCode::Timeout, format!("timeout: luassld at {path} takes no connections"))
        }
        errno => Error::new(LuaCode::Daemon, format!("cannot connect to luassld at {path}: {errno}")),
    }
}

/// For callers that have no timeout of their own.
pub(crate) fn request_deadline() -> Deadline {
    Timeout::After(REQUEST).deadline()
}
