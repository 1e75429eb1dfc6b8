//! TCP sockets of the program: resolving, connecting, listening. The sockets are passed to the daemon.

use crate::deadline::Timeout;
use crate::error::Error;
use luassl_protocol::LuaCode;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with, sockopt,
};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The number of connections that the kernel holds until the daemon accepts them. The kernel's own limit also
/// applies.
const BACKLOG: i32 = 4096;

/// The event that a descriptor must be polled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Readable.
    Read,
    /// Writable.
    Write,
}

/// Connects over TCP. Tries the addresses of a name in order.
pub struct Dialer {
    target: String,
    addresses: VecDeque<SocketAddr>,
    socket: Option<OwnedFd>,
    failure: Option<Error>,
}

impl Dialer {
    /// Resolves `host`, a name or an address. Blocks while the system's resolver blocks.
    ///
    /// # Errors
    /// Returns an error if the name has no address.
    pub fn new(host: &str, port: u16) -> Result<Self, Error> {
        let addresses = resolve(host, port)?.into();
        Ok(Self { target: format!("{host} port {port}"), addresses, socket: None, failure: None })
    }

    /// Returns the socket of the current attempt. It is writable when the attempt has ended.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Continues until a connection is established.
    ///
    /// # Errors
    /// Returns an error on timeout, after which it may be called again. Otherwise returns the reason why the
    /// last address could not be reached.
    pub fn advance(&mut self, timeout: Timeout) -> Result<OwnedFd, Error> {
        let deadline = timeout.deadline();
        loop {
            let outcome = match self.socket.take() {
                Some(socket) => match deadline.wait(socket.as_fd(), PollFlags::OUT) {
                    Ok(false) => {
                        self.socket = Some(socket);
                        return Err(Error::timeout(&format!("{} has not answered yet", self.target)));
                    }
                    Ok(true) => sockopt::socket_error(&socket).and_then(|error| error).map(|()| socket),
                    Err(errno) => Err(errno),
                },
                None => match self.addresses.pop_front() {
                    None => return Err(self.exhausted()),
                    Some(address) => self.begin(address),
                },
            };
            match outcome {
                Ok(socket) => return Ok(socket),
                Err(Errno::INPROGRESS) => {}
                Err(errno) => self.failure = Some(self.describe(errno)),
            }
        }
    }

    fn begin(&mut self, address: SocketAddr) -> Result<OwnedFd, Errno> {
        let socket = stream_socket(address, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        match connect(&socket, &address) {
            Ok(()) => Ok(socket),
            Err(Errno::INPROGRESS | Errno::INTR) => {
                self.socket = Some(socket);
                Err(Errno::INPROGRESS)
            }
            Err(errno) => Err(errno),
        }
    }

    fn describe(&self, errno: Errno) -> Error {
        let code = if errno == Errno::TIMEDOUT { LuaCode::Timeout } else { LuaCode::Cut };
        Error::new(code, format!("cannot connect to {}: {}", self.target, describe(errno)))
    }

    fn exhausted(&mut self) -> Error {
        let unknown = || Error::new(LuaCode::Cut, format!("cannot connect to {}: no address", self.target));
        self.failure.clone().unwrap_or_else(unknown)
    }
}

/// Listens on `port` (0: any free port) of `address`. Without an address, it listens on all addresses, with
/// one socket for IPv6 and IPv4 if the system supports both.
///
/// # Errors
/// Returns an error if the port is in use or not permitted, or if the address does not belong to this
/// machine.
pub(crate) fn listener(port: u16, address: Option<&str>) -> Result<OwnedFd, Error> {
    match address {
        Some(address) if address != "*" => {
            let resolved = resolve(address, port)?;
            listen_on(resolved[0]).map_err(|errno| cannot_bind(errno, address, port))
        }
        _ => {
            let both = listen_on(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
            let either = match both {
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                    listen_on(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
                }
                other => other,
            };
            either.map_err(|errno| cannot_bind(errno, "all addresses", port))
        }
    }
}

/// Returns the address that a socket is bound to.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn listen_on(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = stream_socket(address, SocketFlags::CLOEXEC)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn stream_socket(address: SocketAddr, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    socket_with(family, SocketType::STREAM, flags, None)
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let cannot = |why: &str| Error::new(LuaCode::Cut, format!("cannot resolve {host}: {why}"));
    let found = (bare, port).to_socket_addrs().map_err(|error| cannot(&error.to_string()))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() { Err(cannot("it has no address")) } else { Ok(addresses) }
}

fn cannot_bind(errno: Errno, address: &str, port: u16) -> Error {
    match errno {
        Errno::ADDRINUSE => {
            Error::new(LuaCode::Refused, format!("port {port} on {address} is in use by another program"))
        }
        Errno::ACCESS => Error::new(
            LuaCode::Refused,
            format!("no permission to bind port {port}: let luassld bind it and use bind{{listener=NAME}}"),
        ),
        errno => Error::misuse(format!("cannot listen on {address} port {port}: {}", describe(errno))),
    }
}

fn describe(errno: Errno) -> String {
    match errno {
        Errno::CONNREFUSED => "connection refused".into(),
        Errno::TIMEDOUT => "timeout".into(),
        Errno::HOSTUNREACH => "no route to the host".into(),
        Errno::NETUNREACH => "network unreachable".into(),
        Errno::ADDRNOTAVAIL => "the address does not belong to this machine".into(),
        errno => std::io::Error::from(errno).to_string().to_lowercase(),
    }
}
