//! Descriptors that come from clients: hostile until looked at, and closed with care.

use luassl_protocol::{ErrorCode, Failure};
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
use std::{
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{OnceLock, mpsc},
    thread,
};

/// Descriptors that may wait for the closing thread; what comes on top is closed by whoever brings it.
const CLOSING_QUEUE: usize = 1024;

/// Takes a connected TCP socket and nothing else.
///
/// # Errors
/// [`ErrorCode::Descriptor`]; the descriptor is then closed on a thread of its own, unread.
pub(super) fn connected_tcp(fd: OwnedFd) -> Result<OwnedFd, Failure> {
    checked_tcp(fd, false)
}

/// Takes a listening TCP socket and nothing else.
///
/// # Errors
/// As [`connected_tcp`].
pub(super) fn listening_tcp(fd: OwnedFd) -> Result<OwnedFd, Failure> {
    checked_tcp(fd, true)
}

fn checked_tcp(fd: OwnedFd, listening: bool) -> Result<OwnedFd, Failure> {
    match fault(&fd, listening) {
        None => Ok(fd),
        Some(fault) => {
            close_elsewhere(fd);
            Err(Failure::new(ErrorCode::Descriptor, fault))
        }
    }
}

fn fault(fd: &OwnedFd, listening: bool) -> Option<&'static str> {
    let Ok(domain) = sockopt::socket_domain(fd) else { return Some("the descriptor is no socket") };
    if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
        return Some("the descriptor is no TCP socket");
    }
    if sockopt::socket_type(fd) != Ok(SocketType::STREAM)
        || sockopt::socket_protocol(fd) != Ok(Some(ipproto::TCP))
    {
        return Some("the descriptor is no TCP socket");
    }
    match sockopt::socket_acceptconn(fd) {
        Ok(is) if is == listening => {}
        Ok(false) => return Some("the socket does not listen: call listen(2) on it first"),
        _ => return Some("the socket listens: a connected one is needed"),
    }
    if !listening && !matches!(rustix::net::getpeername(fd), Ok(Some(_))) {
        return Some("the socket is not connected");
    }
    None
}

/// Closes a TCP socket without waiting, whatever SO_LINGER its client has set.
pub(super) fn close(fd: OwnedFd) {
    // A socket that is beyond options is beyond lingering too.
    let _ = sockopt::set_socket_linger(&fd, None);
    drop(fd);
}

/// Closes a descriptor of unknown kind on a thread made for it, since a close may block for as long as the client
/// likes (a FUSE file, a socket that lingers).
pub(super) fn close_elsewhere(fd: OwnedFd) {
    static CLOSER: OnceLock<mpsc::SyncSender<OwnedFd>> = OnceLock::new();
    let closer = CLOSER.get_or_init(|| {
        let (sender, receiver) = mpsc::sync_channel::<OwnedFd>(CLOSING_QUEUE);
        let spawned =
            thread::Builder::new().name("close".into()).spawn(move || receiver.iter().for_each(drop));
        if let Err(error) = spawned {
            tracing::error!("no thread to close descriptors on: {error}");
        }
        sender
    });
    // A full queue means that a close blocks: the sender waits in this client's stead.
    let _ = closer.send(fd);
}

/// What tells a listening socket from all others of the system (SO_COOKIE).
///
/// # Errors
/// When the kernel cannot tell.
pub(super) fn cookie(fd: BorrowedFd<'_>) -> Result<u64, Failure> {
    sockopt::socket_cookie(fd)
        .map_err(|error| Failure::new(ErrorCode::Internal, format!("no SO_COOKIE of the listener: {error}")))
}

/// Where a TCP socket is connected to; an address has one form, whichever sort of socket has it.
pub(super) fn peer(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(rustix::net::getpeername(fd).ok()??).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// A pair of connected stream sockets: the front's end, then Lua's.
///
/// # Errors
/// When the descriptors are used up.
pub(super) fn stream_pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    pair(SocketType::STREAM)
}

/// A pair of connected SOCK_SEQPACKET sockets: the front's end, then Lua's.
///
/// # Errors
/// As [`stream_pair`].
pub(super) fn delivery_pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    pair(SocketType::SEQPACKET)
}

fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd), Failure> {
    rustix::net::socketpair(AddressFamily::UNIX, kind, rustix::net::SocketFlags::CLOEXEC, None).map_err(
        |error| Failure::new(ErrorCode::Limit, format!("no descriptors left for a connection: {error}")),
    )
}
