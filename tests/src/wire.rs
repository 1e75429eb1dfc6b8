//! The control protocol without its client: for programs that misbehave.

use crate::PATIENCE;
use luassl_keeper_ipc::transport::{self, RecvFlags, SendFlags};
use luassl_protocol::{
    Connect, Connecting, ContextMade, ContextSpec, FRAME_HEADER, Failure, HandshakeResult, Hello,
    MakeContext, Mode, Request, Role, Token, VERSION, Welcome, decode_reply, from_body,
};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A control connection.
pub struct Control {
    stream: UnixStream,
    id: u64,
}

/// The body of an answer and the descriptors that came with it.
pub struct Answer {
    /// MessagePack.
    pub body: Vec<u8>,
    /// One, or none.
    pub descriptors: Vec<OwnedFd>,
}

/// An outgoing connection in stream mode: its handshake is done.
pub struct Stream {
    /// What the control socket knows it by.
    pub token: Token,
    /// Plaintext.
    pub socket: UnixStream,
}

impl Control {
    /// Connects and says hello.
    ///
    /// # Panics
    /// When the front does not answer.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the control socket");
        bound(&stream);
        let mut control = Self { stream, id: 0 };
        let hello = Hello { version: VERSION, features: vec!["stream".into()], client: "test".into() };
        control.ask::<Welcome>(&Request::Hello(hello)).expect("a welcome");
        control
    }

    /// Sends a request with the id `id` and `descriptors`, and gives the answer as it is.
    ///
    /// # Panics
    /// When none comes.
    pub fn exchange(&mut self, id: u64, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Answer {
        let frame = request.to_frame(id).expect("a frame");
        let sent = transport::send(&self.stream, &frame, descriptors, SendFlags::empty());
        assert_eq!(sent.expect("sent"), frame.len(), "requests of tests are short");
        let mut header = [0; FRAME_HEADER];
        let received = transport::recv(&self.stream, &mut header, 1, RecvFlags::WAITALL).expect("an answer");
        assert_eq!(received.len, FRAME_HEADER, "the front closed the connection");
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        self.stream.read_exact(&mut body).expect("an answer's body");
        Answer { body, descriptors: received.descriptors }
    }

    /// Asks without descriptors.
    ///
    /// # Errors
    /// The front's refusal.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        self.pass(request, &[]).map(|(fields, _)| fields)
    }

    /// Asks with descriptors.
    ///
    /// # Errors
    /// The front's refusal.
    ///
    /// # Panics
    /// When the answer cannot be read.
    pub fn pass<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(T, Option<OwnedFd>), Failure> {
        self.id += 1;
        let mut answer = self.exchange(self.id, request, descriptors);
        let (id, fields) = decode_reply(&answer.body).expect("an answer");
        assert_eq!(id, self.id);
        Ok((fields?, answer.descriptors.pop()))
    }

    /// A context.
    ///
    /// # Errors
    /// The front's refusal.
    ///
    /// # Panics
    /// When the front asks for a blob.
    pub fn context(&mut self, spec: ContextSpec) -> Result<u64, Failure> {
        let made: ContextMade = self.ask(&Request::Context(Box::new(MakeContext { spec, again: false })))?;
        Ok(made.context.expect("no blob is missing"))
    }

    /// Passes a descriptor for an outgoing connection that verifies nobody.
    ///
    /// # Errors
    /// The front's refusal.
    pub fn connect(
        &mut self,
        context: u64,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(Token, Option<OwnedFd>), Failure> {
        let connect = Connect::new(context, Role::Client, Mode::Stream);
        let (made, socket) = self.pass::<Connecting>(&Request::Connect(connect), &[descriptor])?;
        Ok((made.token, socket))
    }

    /// An outgoing connection that verifies nobody, over `tcp`; `peer` makes the other end.
    ///
    /// # Panics
    /// When the handshake fails.
    pub fn stream<T>(&mut self, tcp: &TcpStream, peer: impl FnOnce() -> T) -> (Stream, T) {
        let context = self.context(unverified()).expect("a context");
        let (token, socket) = self.connect(context, tcp.as_fd()).expect("a connection");
        let peer = peer();
        let mut socket = UnixStream::from(socket.expect("its socket"));
        bound(&socket);
        let mut header = [0; FRAME_HEADER];
        socket.read_exact(&mut header).expect("a result");
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        socket.read_exact(&mut body).expect("a result");
        let result: HandshakeResult = from_body(&body).expect("a result");
        assert_eq!(result.error, None);
        (Stream { token, socket }, peer)
    }
}

/// A client's context that takes any certificate.
#[must_use]
pub fn unverified() -> ContextSpec {
    ContextSpec { verify: Some(0), ..ContextSpec::default() }
}

fn bound(stream: &UnixStream) {
    stream.set_nonblocking(false).expect("a flag");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
}
