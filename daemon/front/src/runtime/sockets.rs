//! Descriptors that come from clients. They are treated as hostile until they are checked, and are closed with care
//! ([`closing`]).

use crate::{
    authorization::quota::Account,
    runtime::{closing, tcp::Tcp},
};
use luassl_keeper_ipc::transport::{self, DESCRIPTORS_MAX, RecvError};
use luassl_protocol::{ErrorCode, Failure};
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, ipproto, shutdown, sockopt},
};
use std::{
    io,
    mem::ManuallyDrop,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

/// The number of bytes of an unread queue that are discarded at a time before a socket is closed.
const SCRATCH: usize = 8 * 1024;

/// A Unix socket whose peer is a client. The client may send descriptors at points where none are expected.
///
/// A message whose descriptors have no room is not received, because the kernel would close them on this thread. The
/// message is peeked at (MSG_PEEK, which leaves descriptors in the message), and stays in the socket, which another
/// thread closes.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    fd: ManuallyDrop<OwnedFd>,
    /// The account on which the client's descriptors are closed; `None` until the client is known.
    account: Option<Account>,
    takes: Takes,
    /// Whether it is a SOCK_SEQPACKET socket, on which an empty message looks like the end.
    has_messages: bool,
    /// Whether it is a copy of the socket of another value. The drop of a copy does not shut the socket down.
    is_copy: bool,
    /// The number of unread bytes that the drop itself discards. A socket with more unread bytes is closed like a
    /// socket that contains descriptors.
    thrown_away_here: usize,
}

/// Whether descriptors are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Descriptors are received if there is room for them.
    Descriptors,
    Nothing,
}

/// What a socket contains.
struct Peeked {
    count: usize,
    has_descriptors: bool,
}

/// The result of one receive from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// The number of bytes; 0 at the end.
    pub(crate) count: usize,
    /// Whether descriptors arrived with the bytes. They are being closed, and the receive has stopped behind them.
    pub(crate) had_descriptors: bool,
}

impl ClientSocket {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let (takes, has_messages) = (Takes::Descriptors, false);
        Self {
            fd: ManuallyDrop::new(fd),
            account: None,
            takes,
            has_messages,
            is_copy: false,
            thrown_away_here: usize::MAX,
        }
    }

    /// Returns another descriptor of the same socket. No descriptor is received over it, and the connection does not
    /// depend on it.
    ///
    /// # Errors
    /// Returns an error if no descriptor is left.
    pub(crate) fn copy(&self) -> io::Result<Self> {
        let fd = ManuallyDrop::new(self.fd.try_clone()?);
        let (account, has_messages) = (self.account.clone(), self.has_messages);
        let thrown_away_here = self.thrown_away_here;
        Ok(Self { fd, account, takes: Takes::Nothing, has_messages, is_copy: true, thrown_away_here })
    }

    /// Limits the time of the drop, whatever the socket contains. Used on a thread that other tasks wait for.
    pub(crate) fn dropped_in_passing(mut self) -> Self {
        self.thrown_away_here = SCRATCH;
        self
    }

    /// Disables the receipt of descriptors.
    pub(crate) fn without_descriptors(mut self) -> Self {
        self.takes = Takes::Nothing;
        self
    }

    /// Enables the receipt of descriptors from now on, if there is room for them.
    pub(crate) fn take_descriptors(&mut self) {
        self.takes = Takes::Descriptors;
    }

    /// Sets the account on which descriptors received over the socket are closed.
    pub(crate) fn with_account(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// Receives without waiting, where no descriptors are expected.
    ///
    /// # Errors
    /// Returns the error of the system: [`Errno::AGAIN`] if there is nothing to receive, [`Errno::CONNRESET`] as for
    /// [`Self::receive_all`].
    pub(crate) fn receive(&self, room: &mut [u8]) -> Result<Received, Errno> {
        let received = self.receive_all(room)?;
        let had_descriptors = !received.descriptors.is_empty();
        closing::close(received.descriptors, self.account.as_ref());
        Ok(Received { count: received.len, had_descriptors })
    }

    /// Receives without waiting, with the descriptors that arrived.
    ///
    /// # Errors
    /// Returns the error of the system: [`Errno::AGAIN`] if there is nothing to receive, and [`Errno::CONNRESET`] if
    /// descriptors arrived for which there is no room. They stay unread, and the connection has to end.
    pub(crate) fn receive_all(&self, mut room: &mut [u8]) -> Result<transport::Received, Errno> {
        if !self.has_room_for_descriptors() {
            let peeked = self.peek(room)?;
            if peeked.has_descriptors {
                return Err(Errno::CONNRESET);
            }
            if peeked.count == 0 {
                return Ok(transport::Received { len: 0, descriptors: Vec::new(), truncated: false });
            }
            // Data that has arrived since may have descriptors.
            room = &mut room[..peeked.count];
        }
        match transport::recv(&*self.fd, room, DESCRIPTORS_MAX, RecvFlags::DONTWAIT) {
            Ok(received) => Ok(received),
            Err(RecvError::System(error)) => Err(error),
            // The table of descriptors is full. The kernel has already closed the descriptors, and their bytes are
            // lost.
            Err(RecvError::DescriptorsLost) => Err(Errno::MFILE),
        }
    }

    fn has_room_for_descriptors(&self) -> bool {
        let has_room = || self.account.as_ref().is_none_or(Account::has_room_for_descriptors);
        self.takes == Takes::Descriptors && has_room()
    }

    /// Peeks at the next message, and leaves it in the socket.
    fn peek(&self, room: &mut [u8]) -> Result<Peeked, Errno> {
        match transport::recv(&*self.fd, room, 0, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok(received) => Ok(Peeked { count: received.len, has_descriptors: false }),
            Err(RecvError::DescriptorsLost) => Ok(Peeked { count: 0, has_descriptors: true }),
            Err(RecvError::System(error)) => Err(error),
        }
    }

    /// Returns whether a copy contains no message with descriptors. If this copy is the last descriptor of the socket,
    /// the socket is already shut down, and the messages without descriptors are discarded.
    fn has_no_descriptors(&self) -> bool {
        matches!(self.peek(&mut [0]), Ok(Peeked { has_descriptors: false, .. }) | Err(Errno::AGAIN))
    }

    /// Stops receiving from the client, whose writes fail from now on, and discards what it sent.
    pub(crate) fn refuse(&self) {
        // Fails only if the other end has already gone.
        let _ = shutdown(&*self.fd, Shutdown::Read);
        self.throw_away(usize::MAX);
    }

    /// Discards the content of a socket that is shut down, up to the first descriptor, or `most` bytes and at most
    /// [`SCRATCH`] more. Returns false if there may be a descriptor.
    fn throw_away(&self, most: usize) -> bool {
        let mut scratch = [0; SCRATCH];
        let mut thrown = 0;
        while thrown < most {
            match self.peek(&mut scratch) {
                Ok(Peeked { has_descriptors: true, .. }) => return false,
                Ok(Peeked { count: 0, .. }) => return !self.has_messages,
                Ok(Peeked { count, .. }) => {
                    // The receive takes exactly the bytes that were peeked at, which have no descriptors.
                    let _ = transport::recv(&*self.fd, &mut scratch[..count], 0, RecvFlags::DONTWAIT);
                    thrown += count;
                }
                // The kernel reports once that the other end has left data unread.
                Err(Errno::CONNRESET) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for ClientSocket {
    /// Closes the socket here only if it contains no descriptor. After the shutdown nothing more can arrive.
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let is_empty = if self.is_copy {
            self.has_no_descriptors()
        } else {
            let _ = shutdown(&*self.fd, Shutdown::Both);
            self.throw_away(self.thrown_away_here)
        };
        // SAFETY: the value is being dropped, and nothing uses the field after this.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        if !is_empty {
            closing::close_socket(fd, self.account.as_ref());
        }
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for ClientSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Takes the connected TCP socket that arrived with a request, and no other descriptor.
///
/// # Errors
/// Returns [`ErrorCode::Descriptor`]. In this case the descriptors stay in `came`.
pub(crate) fn connected_tcp(came: &mut Vec<OwnedFd>) -> Result<Tcp, Failure> {
    take_tcp(came, false)
}

/// Takes the listening TCP socket that arrived with a request, and no other descriptor.
///
/// # Errors
/// The same as [`connected_tcp`].
pub(crate) fn listening_tcp(came: &mut Vec<OwnedFd>) -> Result<Tcp, Failure> {
    take_tcp(came, true)
}

fn take_tcp(came: &mut Vec<OwnedFd>, listening: bool) -> Result<Tcp, Failure> {
    if came.len() > 1 {
        let count = came.len();
        return Err(wrong(&format!("{count} descriptors came with the request: send it with one alone")));
    }
    let fd = came.pop().ok_or_else(|| wrong("no descriptor came with the request"))?;
    match check(&fd, listening) {
        Ok(()) => Ok(Tcp::new(fd)),
        Err(failure) => {
            came.push(fd);
            Err(failure)
        }
    }
}

fn wrong(fault: &str) -> Failure {
    Failure::new(ErrorCode::Descriptor, fault)
}

fn check(fd: &OwnedFd, listening: bool) -> Result<(), Failure> {
    let domain = sockopt::socket_domain(fd).map_err(|_| wrong("the descriptor is no socket"))?;
    let is_tcp = (domain == AddressFamily::INET || domain == AddressFamily::INET6)
        && sockopt::socket_type(fd) == Ok(SocketType::STREAM)
        && sockopt::socket_protocol(fd) == Ok(Some(ipproto::TCP));
    if !is_tcp {
        return Err(wrong("the descriptor is no TCP socket"));
    }
    match sockopt::socket_acceptconn(fd) {
        Ok(true) if listening => Ok(()),
        Ok(false) if !listening => check_connected(fd),
        Ok(false) => Err(wrong("the socket does not listen: call listen(2) on it first")),
        _ => Err(wrong("the socket listens: a connected one is needed")),
    }
}

fn check_connected(fd: &OwnedFd) -> Result<(), Failure> {
    if matches!(rustix::net::getpeername(fd), Ok(Some(_))) {
        return Ok(());
    }
    match sockopt::socket_error(fd) {
        Ok(Err(error)) => Err(Failure::new(ErrorCode::Cut, format!("the connection was cut: {error}"))),
        _ => Err(wrong("the socket is not connected")),
    }
}

/// Returns the number that distinguishes a listening socket from all others of the system (SO_COOKIE).
///
/// # Errors
/// Returns an error if the kernel cannot supply it.
pub(crate) fn cookie(fd: BorrowedFd<'_>) -> Result<u64, Failure> {
    sockopt::socket_cookie(fd)
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("no SO_COOKIE of the listener: {error}")))
}

/// Returns the address that a TCP socket is connected to. An address has one form, independently of the kind of the
/// socket.
pub(crate) fn peer(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(rustix::net::getpeername(fd).ok()??).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// The size of the buffer at each end of a stream, in bytes. It is the default maximum of a system
/// (`net.core.wmem_max`). The kernel doubles it, and includes its own structures, so a batch fits.
const STREAM_BUFFER: usize = 208 * 1024;

/// Returns a pair of connected stream sockets: the front's end, then Lua's.
///
/// # Errors
/// Returns an error if no descriptor is left.
pub(crate) fn stream_pair() -> Result<(ClientSocket, OwnedFd), Failure> {
    let (ours, theirs) = pair(SocketType::STREAM)?;
    for end in [ours.as_fd(), theirs.as_fd()] {
        // If this fails, the stream is slower, but correct.
        let _ = sockopt::set_socket_send_buffer_size(end, STREAM_BUFFER);
    }
    Ok((ours, theirs))
}

/// Returns a pair of connected SOCK_SEQPACKET sockets: the front's end, then Lua's.
///
/// # Errors
/// The same as [`stream_pair`].
pub(crate) fn delivery_pair() -> Result<(ClientSocket, OwnedFd), Failure> {
    pair(SocketType::SEQPACKET)
}

fn pair(kind: SocketType) -> Result<(ClientSocket, OwnedFd), Failure> {
    match rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None) {
        Ok((ours, theirs)) => {
            let mut ours = ClientSocket::new(ours);
            ours.has_messages = kind == SocketType::SEQPACKET;
            Ok((ours, theirs))
        }
        Err(error) => {
            Err(Failure::new(ErrorCode::Limit, format!("no descriptors left for a connection: {error}")))
        }
    }
}
