//! Descriptors that come from clients: hostile until looked at, and closed with care ([`closing`]).

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

/// How much of an unread queue is thrown away at a time before a socket is closed, in bytes.
const SCRATCH: usize = 8 * 1024;

/// A Unix socket at whose other end is a client, which may send descriptors where none belong.
///
/// A message whose descriptors have no room is not received, since the kernel would close them on this thread: it is looked
/// at (MSG_PEEK, which leaves descriptors in the message), and stays in the socket, which somebody else closes.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    fd: ManuallyDrop<OwnedFd>,
    /// On which what the client sends is closed; none before it is known who that is.
    account: Option<Account>,
    takes: Takes,
    /// SOCK_SEQPACKET: an empty message looks like the end.
    has_messages: bool,
    /// Of a socket that is another value's: its drop ends nothing.
    is_copy: bool,
    /// How much of what nobody has read its drop throws away itself, in bytes. A socket with more is closed as one with
    /// descriptors in it.
    thrown_away_here: usize,
}

/// Whether descriptors are received at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// As far as there is room for them.
    Descriptors,
    Nothing,
}

/// What lies in a socket.
struct Peeked {
    count: usize,
    has_descriptors: bool,
}

/// What one receive from a client brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many bytes; 0 at the end.
    pub(crate) count: usize,
    /// Whether descriptors came along. They are being closed; the receive has stopped behind them.
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

    /// Another descriptor of the same socket. No descriptor is received over it, and the connection goes on without it.
    ///
    /// # Errors
    /// When the descriptors are used up.
    pub(crate) fn copy(&self) -> io::Result<Self> {
        let fd = ManuallyDrop::new(self.fd.try_clone()?);
        let (account, has_messages) = (self.account.clone(), self.has_messages);
        let thrown_away_here = self.thrown_away_here;
        Ok(Self { fd, account, takes: Takes::Nothing, has_messages, is_copy: true, thrown_away_here })
    }

    /// Its drop takes next to no time, whatever lies in it: for a thread that others wait for.
    pub(crate) fn dropped_in_passing(mut self) -> Self {
        self.thrown_away_here = SCRATCH;
        self
    }

    /// No descriptor is received over it.
    pub(crate) fn without_descriptors(mut self) -> Self {
        self.takes = Takes::Nothing;
        self
    }

    /// From now on descriptors are received, as far as there is room for them.
    pub(crate) fn take_descriptors(&mut self) {
        self.takes = Takes::Descriptors;
    }

    /// What comes over it is closed on that account.
    pub(crate) fn with_account(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// Receives, without waiting, where descriptors have no business.
    ///
    /// # Errors
    /// The system's; [`Errno::AGAIN`] where there is nothing, [`Errno::CONNRESET`] as for [`Self::receive_all`].
    pub(crate) fn receive(&self, room: &mut [u8]) -> Result<Received, Errno> {
        let received = self.receive_all(room)?;
        let had_descriptors = !received.descriptors.is_empty();
        closing::close(received.descriptors, self.account.as_ref());
        Ok(Received { count: received.len, had_descriptors })
    }

    /// Receives, without waiting, with the descriptors that come along.
    ///
    /// # Errors
    /// The system's; [`Errno::AGAIN`] where there is nothing, and [`Errno::CONNRESET`] where descriptors came that there is
    /// no room for: they stay unread, and the connection has to end.
    pub(crate) fn receive_all(&self, mut room: &mut [u8]) -> Result<transport::Received, Errno> {
        if !self.has_room_for_descriptors() {
            let peeked = self.peek(room)?;
            if peeked.has_descriptors {
                return Err(Errno::CONNRESET);
            }
            if peeked.count == 0 {
                return Ok(transport::Received { len: 0, descriptors: Vec::new(), truncated: false });
            }
            // What has come since may have descriptors.
            room = &mut room[..peeked.count];
        }
        match transport::recv(&*self.fd, room, DESCRIPTORS_MAX, RecvFlags::DONTWAIT) {
            Ok(received) => Ok(received),
            Err(RecvError::System(error)) => Err(error),
            // The table of descriptors is full; what was to come is closed already, and its bytes are gone.
            Err(RecvError::DescriptorsLost) => Err(Errno::MFILE),
        }
    }

    fn has_room_for_descriptors(&self) -> bool {
        let has_room = || self.account.as_ref().is_none_or(Account::has_room_for_descriptors);
        self.takes == Takes::Descriptors && has_room()
    }

    /// Looks at what the next receive would bring, and leaves it in the socket.
    fn peek(&self, room: &mut [u8]) -> Result<Peeked, Errno> {
        match transport::recv(&*self.fd, room, 0, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok(received) => Ok(Peeked { count: received.len, has_descriptors: false }),
            Err(RecvError::DescriptorsLost) => Ok(Peeked { count: 0, has_descriptors: true }),
            Err(RecvError::System(error)) => Err(error),
        }
    }

    /// Whether nothing with descriptors lies in a copy. Where the socket is closed already but for this copy, it is shut
    /// down, and what had no descriptors has been thrown away.
    fn has_no_descriptors(&self) -> bool {
        matches!(self.peek(&mut [0]), Ok(Peeked { has_descriptors: false, .. }) | Err(Errno::AGAIN))
    }

    /// Takes nothing more from the client, whose writes fail from now on, and throws away what it sent.
    pub(crate) fn refuse(&self) {
        // Fails only where the other end has gone already.
        let _ = shutdown(&*self.fd, Shutdown::Read);
        self.throw_away(usize::MAX);
    }

    /// Throws away what lies in a socket that is shut down, up to the first descriptor, or so many bytes and no more than
    /// [`SCRATCH`] above; false where there may be a descriptor.
    fn throw_away(&self, most: usize) -> bool {
        let mut scratch = [0; SCRATCH];
        let mut thrown = 0;
        while thrown < most {
            match self.peek(&mut scratch) {
                Ok(Peeked { has_descriptors: true, .. }) => return false,
                Ok(Peeked { count: 0, .. }) => return !self.has_messages,
                Ok(Peeked { count, .. }) => {
                    // Exactly what was looked at: it has no descriptors.
                    let _ = transport::recv(&*self.fd, &mut scratch[..count], 0, RecvFlags::DONTWAIT);
                    thrown += count;
                }
                // It is told once, that the other end has left something unread.
                Err(Errno::CONNRESET) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for ClientSocket {
    /// Closes the socket here only where no descriptor lies in it. Nothing can come in once it is shut down.
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

/// Takes the connected TCP socket that came with a request, and nothing else.
///
/// # Errors
/// [`ErrorCode::Descriptor`]; what came is then left where it is.
pub(crate) fn connected_tcp(came: &mut Vec<OwnedFd>) -> Result<Tcp, Failure> {
    take_tcp(came, false)
}

/// Takes the listening TCP socket that came with a request, and nothing else.
///
/// # Errors
/// As [`connected_tcp`].
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

/// What tells a listening socket from all others of the system (SO_COOKIE).
///
/// # Errors
/// When the kernel cannot tell.
pub(crate) fn cookie(fd: BorrowedFd<'_>) -> Result<u64, Failure> {
    sockopt::socket_cookie(fd)
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("no SO_COOKIE of the listener: {error}")))
}

/// Where a TCP socket is connected to; an address has one form, whichever sort of socket has it.
pub(crate) fn peer(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(rustix::net::getpeername(fd).ok()??).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// What each end of a stream is asked to hold until the other reads, in bytes: what a system allows everybody unless
/// told otherwise (`net.core.wmem_max`). The kernel doubles it, and counts its own structures; so a batch fits in.
const STREAM_BUFFER: usize = 208 * 1024;

/// A pair of connected stream sockets: the front's end, then Lua's.
///
/// # Errors
/// When the descriptors are used up.
pub(crate) fn stream_pair() -> Result<(ClientSocket, OwnedFd), Failure> {
    let (ours, theirs) = pair(SocketType::STREAM)?;
    for end in [ours.as_fd(), theirs.as_fd()] {
        // Without it a stream is slower, and no less right.
        let _ = sockopt::set_socket_send_buffer_size(end, STREAM_BUFFER);
    }
    Ok((ours, theirs))
}

/// A pair of connected SOCK_SEQPACKET sockets: the front's end, then Lua's.
///
/// # Errors
/// As [`stream_pair`].
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
