//! What a client hears that speaks the protocol itself, beyond what the Lua module ever says.

use luassl_protocol::{
    Connect, Connecting, ConnectionRef, ContextMade, ContextSpec, Done, Failure, Hello, MakeContext, Mode,
    Request, Role, Status, Token, Welcome, decode_reply, reply_id,
};
use luassl_tests::PATIENCE;
use luassl_tests::daemon::Daemon;
use luassl_tests::peer;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

/// A control connection.
struct Control(UnixStream);

impl Control {
    fn open(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(daemon.socket()).expect("the control socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    /// One that has said hello.
    fn introduced(daemon: &Daemon) -> Self {
        let mut control = Self::open(daemon);
        let welcome: Welcome = control.call(1, &hello(1), &[]).expect("a welcome");
        assert_eq!(welcome.version, 1);
        control
    }

    fn send(&self, id: u64, request: &Request, descriptors: &[BorrowedFd<'_>]) {
        let frame = request.to_frame(id).expect("a frame");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(frame.len()));
    }

    /// The next answer, and the descriptor that came with it.
    fn answer(&mut self) -> (Vec<u8>, Option<OwnedFd>) {
        let mut header = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let bytes = &mut [IoSliceMut::new(&mut header)];
        let received = recvmsg(&self.0, bytes, &mut control, RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL);
        assert_eq!(received.expect("an answer").bytes, 4);
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        self.0.read_exact(&mut body).expect("a whole answer");
        (body, descriptor)
    }

    fn call<T: serde::de::DeserializeOwned>(
        &mut self,
        id: u64,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<T, Failure> {
        self.send(id, request, descriptors);
        let (body, _) = self.answer();
        let (answered, outcome) = decode_reply(&body).expect("an answer");
        assert_eq!(answered, id);
        outcome
    }

    fn context(&mut self) -> u64 {
        let verify = Some(0);
        let spec = ContextSpec { verify, ..ContextSpec::default() };
        let made: ContextMade = self
            .call(2, &Request::Context(Box::new(MakeContext { spec, again: false })), &[])
            .expect("a context");
        made.context.expect("its number")
    }

    /// Whether the front closes the connection without another word.
    fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

fn hello(version: u32) -> Request {
    Request::Hello(Hello { version, features: Vec::new(), client: "a test".into() })
}

fn connect(context: u64) -> Request {
    Request::Connect(Connect::new(context, Role::Client, Mode::Stream))
}

fn code(failure: &Failure) -> String {
    format!("{:?}", failure.code)
}

#[test]
fn another_version_is_answered_with_the_one_that_is_spoken_and_closed() {
    let daemon = Daemon::start();
    for version in [0, 2, u32::MAX] {
        let mut control = Control::open(&daemon);
        let failure = control.call::<Welcome>(1, &hello(version), &[]).expect_err("no welcome");
        assert_eq!(code(&failure), "Version", "{failure}");
        assert!(failure.message.contains("version 1"), "{failure}");
        assert!(control.is_closed(), "{version}");
    }
}

#[test]
fn a_request_before_hello_is_answered_and_closed() {
    let daemon = Daemon::start();
    let mut control = Control::open(&daemon);
    let status = Request::Status(ConnectionRef { token: Token::new([0; 16]) });
    let failure = control.call::<Status>(9, &status, &[]).expect_err("no status");
    assert_eq!(code(&failure), "Version", "{failure}");
    assert!(failure.message.contains("hello"), "{failure}");
    assert!(control.is_closed());
}

#[test]
fn a_second_hello_is_refused_and_the_connection_goes_on() {
    let daemon = Daemon::start();
    let mut control = Control::introduced(&daemon);
    let failure = control.call::<Welcome>(2, &hello(1), &[]).expect_err("no second welcome");
    assert_eq!(code(&failure), "Invalid", "{failure}");
    control.context();
}

#[test]
fn two_descriptors_with_one_request_are_answered_and_the_connection_goes_on() {
    let daemon = Daemon::start();
    let server = peer::Server::start("server", |_| {});
    let mut control = Control::introduced(&daemon);
    let context = control.context();
    let tcp = peer::tcp(server.port()).expect("tcp");
    let failure = control
        .call::<Connecting>(3, &connect(context), &[tcp.as_fd(), tcp.as_fd()])
        .expect_err("no connection");
    assert_eq!(code(&failure), "Descriptor", "{failure}");
    assert!(failure.message.contains('2') && failure.message.contains("one alone"), "{failure}");
    let good: Result<Connecting, _> = control.call(4, &connect(context), &[tcp.as_fd()]);
    good.expect("a connection");
}

#[test]
fn more_descriptors_than_can_be_taken_are_answered_and_closed() {
    let daemon = Daemon::start();
    let mut control = Control::introduced(&daemon);
    let file = std::fs::File::open("/dev/null").expect("a file");
    for id in 5..7 {
        // With half a frame, so that they wait for it.
        control.send_half(id, &[file.as_fd(); 16]);
    }
    let (body, _) = control.answer();
    let (id, outcome) = decode_reply::<Done>(&body).expect("an answer");
    assert_eq!((id, code(&outcome.expect_err("a failure"))), (0, "Descriptor".to_owned()));
    assert!(control.is_closed());
}

impl Control {
    fn send_half(&self, id: u64, descriptors: &[BorrowedFd<'_>]) {
        let frame = connect(1).to_frame(id).expect("a frame");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let bytes = [IoSlice::new(&frame[..6])];
        sendmsg(&self.0, &bytes, &mut control, SendFlags::NOSIGNAL).expect("a message");
    }
}

/// A TLS 1.2 connection whose peer answers nothing any more, by its token.
fn with_a_silent_peer(control: &mut Control) -> (Token, UnixStream, peer::Tls) {
    let server = peer::Server::start("server", |builder| peer::only(builder, "TLSv1.2"));
    let context = control.context();
    let tcp: TcpStream = peer::tcp(server.port()).expect("tcp");
    control.send(3, &connect(context), &[tcp.as_fd()]);
    let (body, stream) = control.answer();
    let (_, connecting) = decode_reply::<Connecting>(&body).expect("an answer");
    let tls = server.accept().expect("a handshake");
    let mut stream = UnixStream::from(stream.expect("the connection's socket"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("the handshake's result");
    let mut result = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut result).expect("the handshake's result");
    (connecting.expect("a connection").token, stream, tls)
}

#[test]
fn a_renegotiation_that_waits_for_its_peer_holds_up_no_other_request() {
    let daemon = Daemon::start();
    let mut control = Control::introduced(&daemon);
    let (token, _stream, _silent) = with_a_silent_peer(&mut control);
    control.send(10, &Request::Renegotiate(ConnectionRef { token }), &[]);
    control.send(11, &Request::Status(ConnectionRef { token }), &[]);
    let (body, _) = control.answer();
    assert_eq!(reply_id(&body).expect("an id"), 11, "the answer that waits for nobody comes first");
    control.context();
}

#[test]
fn an_answer_that_was_waited_for_reaches_a_client_that_has_ended_its_own_side() {
    let daemon = Daemon::start();
    let mut control = Control::introduced(&daemon);
    let (token, _stream, silent) = with_a_silent_peer(&mut control);
    control.send(10, &Request::Renegotiate(ConnectionRef { token }), &[]);
    control.0.shutdown(std::net::Shutdown::Write).expect("a half-close");
    drop(silent);
    let (body, _) = control.answer();
    assert_eq!(reply_id(&body).expect("an id"), 10);
    assert!(control.is_closed());
}
