//! A pumped connection between a real TLS client and a real Unix socket.

use crate::tests::peers::{self, BOUND};
use crate::{
    authorization::{
        owner::Owner,
        quota::{Bound, Kind, Quotas},
    },
    handshake::handshake,
    runtime::{
        ConnectionRuntime,
        connection::{Command, Connection},
        sockets,
    },
    stream::pump::Pump,
};
use luassl_protocol::{Done, ErrorCode, Failure, Role};
use openssl::ssl::{ErrorCode as SslCode, ShutdownState, Ssl, SslStream, SslVersion};
use parking_lot::Mutex;
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// One runtime for all tests, because its threads last as long as the process.
static HOME: LazyLock<Arc<ConnectionRuntime>> =
    LazyLock::new(|| Arc::new(ConnectionRuntime::start(2).unwrap()));

/// The default time that a connection of these tests may drain without progress.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The far ends of a connection, and its observable state.
pub(crate) struct Rig {
    pub(crate) peer: SslStream<TcpStream>,
    pub(crate) lua: UnixStream,
    pub(crate) connection: Arc<Connection>,
    polls: Arc<AtomicUsize>,
    ended: Receiver<()>,
}

/// Counts activations, and signals the end by dropping the sender.
struct Watched<F> {
    job: F,
    polls: Arc<AtomicUsize>,
    _ended: Mutex<mpsc::Sender<()>>,
}

impl<F: Future<Output = ()> + Unpin> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.job).poll(cx)
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(BOUND, future).await.unwrap() })
}

/// Returns an entry of the table of connections, with a separate quota.
pub(crate) fn connection(runtime: &ConnectionRuntime) -> Arc<Connection> {
    let owner = Owner { socket: "control".into(), uid: 1 };
    let bound = Bound { owner: 10, all: None };
    let slot = Quotas::default().take(&owner, Kind::Connections, 1, bound).unwrap();
    runtime.connections.enter(owner, true, slot).unwrap()
}

impl Rig {
    pub(crate) fn new(version: SslVersion) -> Self {
        Self::with(version, PATIENCE, peers::tcp_pair())
    }

    /// Returns a connection that may drain for `spin` without progress.
    pub(crate) fn with_patience(spin: Duration) -> Self {
        Self::with(SslVersion::TLS1_3, spin, peers::tcp_pair())
    }

    /// Returns a connection whose TCP sockets have small buffers, so that a peer that does not read is detected soon.
    pub(crate) fn tight(spin: Duration) -> Self {
        Self::with(SslVersion::TLS1_3, spin, peers::tight_tcp_pair())
    }

    fn with(version: SslVersion, spin: Duration, pair: (crate::runtime::tcp::Tcp, TcpStream)) -> Self {
        Self::over(peers::session(version), version, spin, pair)
    }

    /// Returns a connection over a given session of the front.
    pub(crate) fn over(
        session: Ssl,
        version: SslVersion,
        spin: Duration,
        (tcp, peer): (crate::runtime::tcp::Tcp, TcpStream),
    ) -> Self {
        let peer = thread::spawn(move || peers::client(version, peer));
        let established =
            block_on(handshake(session, tcp, Role::Server, BOUND)).map_err(|failed| failed.failure).unwrap();
        let (ours, theirs) = sockets::stream_pair().unwrap();
        let lua = UnixStream::from(theirs);
        lua.set_read_timeout(Some(BOUND)).unwrap();
        lua.set_write_timeout(Some(BOUND)).unwrap();
        let runtime = Arc::clone(&HOME);
        let connection = connection(&runtime);
        let pump = Pump::new(Arc::clone(&runtime), Arc::clone(&connection), established.tls, ours, spin);
        let polls = Arc::new(AtomicUsize::new(0));
        let (sender, ended) = mpsc::channel();
        let job = Watched { job: pump.into_job(), polls: Arc::clone(&polls), _ended: Mutex::new(sender) };
        runtime.pumps.spawn(Box::pin(job));
        Self { peer: peer.join().unwrap(), lua, connection, polls, ended }
    }

    /// Sends Lua's close message, and waits for its answer.
    pub(crate) fn close(&self) {
        tell(&self.connection, Command::Close);
    }

    /// Requests a renegotiation or a key update, and waits for its end.
    pub(crate) fn renegotiate(&self) {
        tell(&self.connection, Command::Renegotiate);
    }

    /// Returns how the connection ended, from the table, whether it is live or not.
    pub(crate) fn end(&self) -> Option<ErrorCode> {
        let status = HOME.connections.status(&self.connection.token, &self.connection.owner).unwrap();
        assert_eq!(status.open, status.end.is_none());
        status.end.map(|end| end.code)
    }

    /// Waits until the pump has ended.
    pub(crate) fn wait_for_end(&self) {
        let ended = self.ended.recv_timeout(BOUND);
        assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected), "the connection does not end");
    }

    /// Returns whether the pump still runs.
    pub(crate) fn is_pumped(&self) -> bool {
        self.ended.try_recv() == Err(mpsc::TryRecvError::Empty)
    }

    /// Asserts that a connection without events costs nothing. A pump that spins is activated as often as the machine
    /// permits. An idle pump has at most the activations that were pending when this function began.
    pub(crate) fn assert_idle(&self, state: &str) {
        thread::sleep(Duration::from_millis(100));
        let before = self.polls.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(200));
        let polls = self.polls.load(Ordering::SeqCst) - before;
        assert!(polls <= 5, "{polls} activations while idle: {state}");
        assert!(self.is_pumped(), "over: {state}");
    }

    /// Writes for Lua until no more bytes are accepted. Returns the number of bytes written.
    pub(crate) fn fill_from_lua(&self) -> usize {
        self.lua.set_nonblocking(true).unwrap();
        let went = fill(|bytes| (&self.lua).write(bytes));
        self.lua.set_nonblocking(false).unwrap();
        went
    }

    /// Writes for the peer until no more bytes are accepted. Returns the number of bytes written.
    pub(crate) fn fill_from_peer(&mut self) -> usize {
        self.peer.get_ref().set_nonblocking(true).unwrap();
        let went = fill(|bytes| match self.peer.ssl_write(&bytes[..bytes.len().min(16_384)]) {
            Ok(count) => Ok(count),
            Err(error) if error.code() == SslCode::WANT_WRITE => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(io::Error::other(error)),
        });
        self.peer.get_ref().set_nonblocking(false).unwrap();
        went
    }
}

/// Sends a command, and waits until it has succeeded.
pub(crate) fn tell(
    connection: &Connection,
    command: impl FnOnce(oneshot::Sender<Result<Done, Failure>>) -> Command,
) {
    let (reply, answer) = oneshot::channel();
    connection.send(command(reply)).unwrap();
    block_on(answer).unwrap().unwrap();
}

/// Writes the pattern until a write would block for some time.
fn fill(mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> usize {
    let mut went = 0;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(200) {
        match write(&pattern(went, 16_384)) {
            Ok(count) => {
                went += count;
                last = Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5))
            }
            Err(error) => panic!("{error}"),
        }
    }
    went
}

/// Returns `length` bytes, from `at` on, of an endless text in which a lost, duplicated or moved byte is detectable.
pub(crate) fn pattern(at: usize, length: usize) -> Vec<u8> {
    (at..at + length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ (i >> 16) as u8).collect()
}

/// How a stream ended, with the data before the end.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Ended {
    CloseNotify,
    WithoutCloseNotify,
}

/// Reads for the peer to the end and checks each byte. Returns the number of bytes and how the stream ended.
pub(crate) fn read_peer(peer: &mut SslStream<TcpStream>) -> (usize, Ended) {
    let mut room = vec![0; 65_536];
    let mut came = 0;
    loop {
        match peer.ssl_read(&mut room) {
            Ok(count) => {
                assert!(room[..count] == pattern(came, count), "wrong bytes behind {came}");
                came += count;
            }
            Err(error) if error.code() == SslCode::ZERO_RETURN => return (came, Ended::CloseNotify),
            Err(error) => {
                assert!(!timed_out(&error), "nothing came");
                assert!(!peer.get_shutdown().contains(ShutdownState::RECEIVED));
                return (came, Ended::WithoutCloseNotify);
            }
        }
    }
}

fn timed_out(error: &openssl::ssl::Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Reads for Lua to the end of file and checks each byte. Returns the number of bytes.
pub(crate) fn read_lua(lua: &UnixStream) -> usize {
    let mut lua = lua;
    let mut room = vec![0; 65_536];
    let mut came = 0;
    loop {
        let count = lua.read(&mut room).unwrap();
        if count == 0 {
            return came;
        }
        assert!(room[..count] == pattern(came, count), "wrong bytes behind {came}");
        came += count;
    }
}

/// Ends the peer's side of TCP without a TLS message.
pub(crate) fn cut(peer: &SslStream<TcpStream>) {
    peer.get_ref().shutdown(Shutdown::Write).unwrap();
}
