//! A front for tests: answers requests as its script says and hands its ends of all sockets to the test.

use luassl_protocol::{
    BlobStored, ContextMade, Delivery, Digest, Done, ErrorCode, Failure, HandshakeResult, Info, Matched,
    Request, Status, Token, Welcome, reply_frame, to_body, to_frame,
};
use luassl_protocol::{Bound, Connecting, VERSION};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Nothing in these tests takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the front answers.
#[derive(Default)]
pub(crate) struct Script {
    /// Identities that it knows; none: any.
    pub(crate) identities: Option<HashSet<String>>,
    /// The outcome of handshakes.
    pub(crate) handshake_error: Option<Failure>,
    /// Plaintext that goes out in one piece with a handshake's result.
    pub(crate) first_words: Vec<u8>,
    /// Whether the result is held back.
    pub(crate) holds_result: bool,
    /// How many requests for a connection it takes and does not answer.
    pub(crate) unanswered_connects: usize,
    /// How many renegotiations it does not answer.
    pub(crate) unanswered_renegotiations: usize,
    /// How connections ended.
    pub(crate) end: Option<Failure>,
    /// Whether certificates match the expected name.
    pub(crate) matches: bool,
    /// Bytes in place of any answer.
    pub(crate) garbage: Option<Vec<u8>>,
    /// The largest frame that it says to read.
    pub(crate) frame_limit: Option<u64>,
}

struct Shared {
    script: Mutex<Script>,
    log: Mutex<Vec<Request>>,
    blobs: Mutex<HashSet<Digest>>,
    open: Mutex<Vec<UnixStream>>,
    streams: Mutex<Sender<Peer>>,
    holders: Mutex<Sender<Holder>>,
}

/// A front that listens.
pub(crate) struct Front {
    pub(crate) path: PathBuf,
    shared: Arc<Shared>,
    streams: Receiver<Peer>,
    holders: Receiver<Holder>,
    directory: Option<tempfile::TempDir>,
}

impl Front {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut front = Self::start_at(directory.path().join("luassl.sock"));
        front.directory = Some(directory);
        front
    }

    pub(crate) fn start_at(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let (to_streams, streams) = channel();
        let (to_holders, holders) = channel();
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            log: Mutex::default(),
            blobs: Mutex::default(),
            open: Mutex::default(),
            streams: Mutex::new(to_streams),
            holders: Mutex::new(to_holders),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serve(&listener, &serving));
        Self { path, shared, streams, holders, directory: None }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap()
    }

    /// The requests that have come so far.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Request) -> bool) -> usize {
        self.log().iter().filter(|request| wanted(request)).count()
    }

    pub(crate) fn stream(&self) -> Peer {
        self.streams.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn holder(&self) -> Holder {
        self.holders.recv_timeout(PATIENCE).unwrap()
    }

    /// Dies: all control connections close, and nobody listens. The directory stays for the next one.
    pub(crate) fn die(mut self) -> (PathBuf, Option<tempfile::TempDir>) {
        std::fs::remove_file(&self.path).unwrap();
        for open in self.shared.open.lock().unwrap().drain(..) {
            let _ = open.shutdown(Shutdown::Both);
        }
        (self.path.clone(), self.directory.take())
    }
}

/// The front's end of a connection.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    /// The TCP socket that was passed.
    pub(crate) tcp: Option<OwnedFd>,
}

impl Peer {
    pub(crate) fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// The front's end of a delivery socket.
pub(crate) struct Holder {
    socket: OwnedFd,
    /// The listening socket that was passed.
    pub(crate) listening: Option<OwnedFd>,
}

impl Holder {
    /// The next thing that the holder says; empty when it has gone.
    pub(crate) fn hear(&self) -> Vec<u8> {
        let (bytes, _) = receive(self.socket.as_fd(), 64);
        bytes
    }

    pub(crate) fn deliver(&self) -> Peer {
        let (ours, theirs) = pair(SocketType::STREAM);
        self.say(&Delivery { token: Token::new([7; 16]), result: result(None) }, Some(theirs.as_fd()));
        Peer { stream: UnixStream::from(ours), tcp: None }
    }

    pub(crate) fn report(&self, failure: Failure) {
        self.say(&Delivery { token: Token::new([0; 16]), result: result(Some(failure)) }, None);
    }

    fn say(&self, delivery: &Delivery, fd: Option<BorrowedFd<'_>>) {
        send(self.socket.as_fd(), &to_body(delivery).unwrap(), fd);
    }
}

fn result(error: Option<Failure>) -> HandshakeResult {
    let info = error.is_none().then(|| Info {
        protocol: "TLSv1.3".into(),
        peer: "[::1]:4711".into(),
        local: "127.0.0.1:443".into(),
        ..Info::default()
    });
    HandshakeResult { error, info }
}

fn serve(listener: &UnixListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        shared.open.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        std::thread::spawn(move || while answer(&stream, &shared).is_some() {});
    }
}

fn answer(control: &UnixStream, shared: &Shared) -> Option<()> {
    let (id, request, fd) = next_request(control)?;
    shared.log.lock().unwrap().push(request.clone());
    let mut script = shared.script.lock().unwrap();
    let unanswered = match &request {
        Request::Connect(_) => Some(&mut script.unanswered_connects),
        Request::Renegotiate(_) => Some(&mut script.unanswered_renegotiations),
        _ => None,
    };
    if let Some(left) = unanswered.filter(|left| **left > 0) {
        *left -= 1;
        return Some(());
    }
    if let Some(garbage) = &script.garbage {
        send(control.as_fd(), garbage, None);
        return Some(());
    }
    let (reply, fd) = match request {
        Request::Hello(_) => (reply_frame(id, &Ok(welcome(&script))), None),
        Request::Blob(blob) => {
            let digest = digest_of(&blob.data);
            shared.blobs.lock().unwrap().insert(digest);
            (reply_frame(id, &Ok(BlobStored { digest })), None)
        }
        Request::Context(context) => {
            let blobs = shared.blobs.lock().unwrap();
            (reply_frame(id, &make_context(&context.spec, &script, &blobs)), None)
        }
        Request::Connect(_) => {
            let (ours, theirs) = pair(SocketType::STREAM);
            let mut peer = Peer { stream: UnixStream::from(ours), tcp: fd };
            if !script.holds_result {
                let mut bytes = to_frame(&result(script.handshake_error.clone())).unwrap();
                bytes.extend_from_slice(&script.first_words);
                peer.stream.write_all(&bytes).unwrap();
            }
            shared.streams.lock().unwrap().send(peer).ok()?;
            (reply_frame(id, &Ok(Connecting { token: Token::new([7; 16]) })), Some(theirs))
        }
        Request::Bind(bind) => {
            let (ours, theirs) = pair(SocketType::SEQPACKET);
            shared.holders.lock().unwrap().send(Holder { socket: ours, listening: fd }).ok()?;
            let address = bind.listener.map_or("", |_| "192.0.2.1:443").into();
            (reply_frame(id, &Ok(Bound { address })), Some(theirs))
        }
        Request::Status(_) => {
            (reply_frame(id, &Ok(Status { open: script.end.is_none(), end: script.end.clone() })), None)
        }
        Request::PeerMatches(_) => (reply_frame(id, &Ok(Matched { matches: script.matches })), None),
        Request::Info(_) => (reply_frame(id, &Ok(result(None).info.unwrap())), None),
        Request::FreeContext(_) | Request::Close(_) | Request::SetOption(_) | Request::Renegotiate(_) => {
            (reply_frame(id, &Ok(Done {})), None)
        }
        other => {
            let failure = Failure::new(ErrorCode::UnknownOperation, format!("{other:?}"));
            (reply_frame::<Done>(id, &Err(failure)), None)
        }
    };
    send(control.as_fd(), &reply.unwrap(), fd.as_ref().map(AsFd::as_fd));
    Some(())
}

fn welcome(script: &Script) -> Welcome {
    Welcome {
        version: VERSION,
        features: vec!["stream".into()],
        server: "test".into(),
        openssl: "none".into(),
        frame_limit: script.frame_limit.unwrap_or(1 << 20),
    }
}

fn make_context(
    spec: &luassl_protocol::ContextSpec,
    script: &Script,
    blobs: &HashSet<Digest>,
) -> Result<ContextMade, Failure> {
    let known = |name: &String| script.identities.as_ref().is_none_or(|known| known.contains(name));
    if let Some(unknown) = spec.identity.iter().chain(&spec.identities).find(|name| !known(name)) {
        return Err(Failure::new(ErrorCode::Refused, format!("no identity '{unknown}' for this program")));
    }
    let wanted = spec.chain.iter().chain(&spec.chain_or_trust).chain(&spec.trust.certificates);
    let missing: Vec<_> = wanted.filter(|digest| !blobs.contains(*digest)).copied().collect();
    let context = missing.is_empty().then_some(1);
    Ok(ContextMade { context, missing })
}

fn digest_of(data: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::new(sha2::Sha256::digest(data).into())
}

fn next_request(mut control: &UnixStream) -> Option<(u64, Request, Option<OwnedFd>)> {
    let (first, fd) = receive(control.as_fd(), 1);
    let mut header = [*first.first()?; 4];
    control.read_exact(&mut header[1..]).ok()?;
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    control.read_exact(&mut body).ok()?;
    let (id, request) = Request::decode(&body).unwrap();
    Some((id, request, fd))
}

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::sockopt::set_socket_timeout(&ours, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))
        .unwrap();
    (ours, theirs)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = fd.as_ref() {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    // The client may have gone; what it makes of that is the test's subject.
    let _ = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
}

fn receive(socket: BorrowedFd<'_>, length: usize) -> (Vec<u8>, Option<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; length];
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    bytes.truncate(message.map_or(0, |message| message.bytes));
    let fd = control.drain().find_map(|item| match item {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (bytes, fd)
}
