//! The sockets that the keeper inherits at its start (sd_listen_fds(3)).

use crate::limits::FRONTS_MAX;
use crate::log;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use std::env;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// The purpose of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The socket of the supervisor: `admin`.
    Admin,
    /// The socket of a front: `front.NAME`.
    Front(String),
}

/// A socket that the keeper inherited and serves.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The purpose of the socket.
    pub purpose: Purpose,
    /// The socket: AF_UNIX, SOCK_SEQPACKET.
    pub socket: OwnedFd,
    /// Whether it is a listening socket; otherwise it is a connection.
    pub listening: bool,
}

/// The reason why the keeper does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InheritedSocketError {
    /// There are no sockets. The keeper was probably started by hand.
    #[error(
        "no sockets were passed: luassld run and systemd start luassl-keeper, by the LISTEN_FDS protocol"
    )]
    None,
    /// LISTEN_FDS and LISTEN_FDNAMES do not match.
    #[error("LISTEN_FDNAMES does not name each of the {0} sockets")]
    Names(usize),
    /// There are more sockets than one admin socket and one socket for each front.
    #[error("{0} sockets are too many: at most {max} are allowed", max = FRONTS_MAX + 1)]
    TooMany(usize),
    /// The name is not one of this protocol.
    #[error("invalid socket name {0}: use admin or front.NAME")]
    Purpose(String),
    /// The socket does not have the right type.
    #[error("socket {0} is not an AF_UNIX socket of type SOCK_SEQPACKET (ListenSequentialPacket=)")]
    Sort(String),
    /// A descriptor number is not open.
    #[error("socket {0} cannot be used: {1}")]
    System(String, Errno),
}

/// Takes the sockets that this process was started with. Call it once, before any other function, because it takes the
/// sockets by number.
///
/// # Errors
/// [`InheritedSocketError`].
pub(crate) fn from_environment() -> Result<Vec<InheritedSocket>, InheritedSocketError> {
    let value = |name| env::var(name).ok();
    let other_pid = value("LISTEN_PID").is_some_and(|pid| pid != std::process::id().to_string());
    let count = value("LISTEN_FDS").and_then(|count| count.parse().ok()).unwrap_or(0);
    if count == 0 || other_pid {
        return Err(InheritedSocketError::None);
    }
    let names = value("LISTEN_FDNAMES").unwrap_or_default();
    let names = purposes(&names, count)?;
    (FIRST..).zip(names).map(|(number, (name, purpose))| take(number, name, purpose)).collect()
}

fn purposes(names: &str, count: usize) -> Result<Vec<(&str, Purpose)>, InheritedSocketError> {
    if count > FRONTS_MAX + 1 {
        return Err(InheritedSocketError::TooMany(count));
    }
    let names: Vec<_> = names.split(':').collect();
    if names.len() != count {
        return Err(InheritedSocketError::Names(count));
    }
    names.into_iter().map(|name| Ok((name, purpose(name)?))).collect()
}

fn purpose(name: &str) -> Result<Purpose, InheritedSocketError> {
    match name.strip_prefix("front.") {
        Some(front) if !front.is_empty() => Ok(Purpose::Front(front.to_owned())),
        None if name == "admin" => Ok(Purpose::Admin),
        _ => Err(InheritedSocketError::Purpose(log::quoted(name))),
    }
}

#[allow(unsafe_code)]
fn take(number: RawFd, name: &str, purpose: Purpose) -> Result<InheritedSocket, InheritedSocketError> {
    let failed = |error| InheritedSocketError::System(log::quoted(name), error);
    // SAFETY: the call only queries the number; a descriptor that is not open is an error here.
    fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC).map_err(failed)?;
    // SAFETY: the descriptor is open. The parent process passed it to this process, and only this code takes it, once.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    InheritedSocket::new(purpose, socket).map_err(|error| match error {
        Errno::NOTSOCK | Errno::PROTOTYPE => InheritedSocketError::Sort(log::quoted(name)),
        error => failed(error),
    })
}

impl InheritedSocket {
    /// Checks the type of the socket.
    ///
    /// # Errors
    /// [`Errno::PROTOTYPE`] for a socket of another type, else the error of the system.
    pub fn new(purpose: Purpose, socket: OwnedFd) -> Result<Self, Errno> {
        if socket_domain(&socket)? != AddressFamily::UNIX || socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(Errno::PROTOTYPE);
        }
        let listening = socket_acceptconn(&socket)?;
        Ok(Self { purpose, socket, listening })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_its_purpose() {
        let expected = [("admin", Purpose::Admin), ("front.a.b", Purpose::Front("a.b".to_owned()))];
        assert_eq!(purposes("admin:front.a.b", 2), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_not_of_the_protocol_is_refused() {
        assert_eq!(purposes("admin", 2), Err(InheritedSocketError::Names(2)));
        assert_eq!(purposes("admin:", 2), Err(InheritedSocketError::Purpose("\"\"".to_owned())));
        assert_eq!(purposes("front.", 1), Err(InheritedSocketError::Purpose("\"front.\"".to_owned())));
        assert_eq!(purposes("", FRONTS_MAX + 2), Err(InheritedSocketError::TooMany(FRONTS_MAX + 2)));
    }
}
