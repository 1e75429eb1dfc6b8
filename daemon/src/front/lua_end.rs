//! The plaintext side of a connection: the front's end of the Unix socket that a Lua program holds.
//!
//! Writes are tried first and wait for readiness only where the socket is full, so that readiness for writing can
//! also be waited for to learn that the other end has gone ([`LuaEnd::watch_hangup`]).

use super::readiness;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};
use std::{
    io,
    os::fd::OwnedFd,
    task::{Context, Poll},
};
use tokio::io::unix::AsyncFd;

/// How Lua's side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// shutdown(SHUT_WR): Lua may still read.
    HalfClosed,
    /// The last descriptor has gone.
    Lost,
}

/// What a receive brought.
pub(super) enum Arrival {
    /// So many bytes.
    Data(usize),
    /// The end of Lua's side.
    End(End),
    /// Nothing yet.
    Nothing,
}

enum Socket {
    Parked(OwnedFd),
    Registered(AsyncFd<OwnedFd>),
    Closed,
}

/// The front's end of a connection's Unix socket.
pub(super) struct LuaEnd {
    socket: Socket,
    reads: bool,
    gone: bool,
    /// The front has shut its writing side down.
    shut: bool,
    /// And its reading side too: what Lua still writes fails.
    shut_both: bool,
}

impl LuaEnd {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { socket: Socket::Parked(fd), reads: true, gone: false, shut: false, shut_both: false }
    }

    pub(super) fn register(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Parked(fd) => {
                let fd = readiness::register(fd)?;
                self.socket = Socket::Registered(fd);
            }
            other => self.socket = other,
        }
        Ok(())
    }

    pub(super) fn park(&mut self) {
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Registered(fd) => self.socket = Socket::Parked(fd.into_inner()),
            other => self.socket = other,
        }
    }

    /// Whether Lua may still read what is sent to it.
    pub(super) fn reads(&self) -> bool {
        self.reads && !self.gone
    }

    /// Whether the last descriptor of the other end has gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Sends what the socket has room for; returns how much that was.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> usize {
        let Socket::Registered(fd) = &self.socket else { return 0 };
        let mut sent = 0;
        while sent < data.len() && self.reads {
            match send(fd.get_ref(), &data[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => match fd.poll_write_ready(cx) {
                    Poll::Ready(Ok(mut guard)) if !guard.ready().is_write_closed() => guard.clear_ready(),
                    Poll::Ready(_) => self.reads = false,
                    Poll::Pending => break,
                },
                Err(_) => self.reads = false,
            }
        }
        sent
    }

    /// Receives what Lua has written before a close message: asks the kernel, and not what the runtime has noticed
    /// so far. `Nothing` is certain then.
    pub(super) fn receive_last(&mut self, room: &mut [u8]) -> Arrival {
        let Socket::Registered(fd) = &self.socket else { return Arrival::End(End::Lost) };
        loop {
            match recv(fd.get_ref(), &mut *room, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Arrival::End(self.end()),
                Ok((_, count)) => return Arrival::Data(count),
                Err(Errno::WOULDBLOCK) => return Arrival::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.gone = true;
                    return Arrival::End(End::Lost);
                }
            }
        }
    }

    /// Receives what Lua has written.
    pub(super) fn receive(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Arrival {
        let Socket::Registered(fd) = &self.socket else { return Arrival::End(End::Lost) };
        loop {
            let Poll::Ready(ready) = fd.poll_read_ready(cx) else { return Arrival::Nothing };
            let Ok(mut guard) = ready else { return Arrival::End(End::Lost) };
            match recv(fd.get_ref(), &mut *room, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Arrival::End(self.end()),
                Ok((_, count)) => {
                    // A short read has emptied the socket: the next data raises a new event (epoll(7)).
                    if count < room.len() {
                        guard.clear_ready();
                    }
                    return Arrival::Data(count);
                }
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                // Closed with unread data: as lost as any other last descriptor.
                Err(_) => {
                    self.gone = true;
                    return Arrival::End(End::Lost);
                }
            }
        }
    }

    /// Tells a half-close from a lost last descriptor. After the front's own SHUT_WR the kernel shows both alike,
    /// and only a close message counts.
    fn end(&mut self) -> End {
        if self.has_hung_up() {
            self.gone = !self.shut;
            End::Lost
        } else {
            End::HalfClosed
        }
    }

    fn has_hung_up(&self) -> bool {
        let fd = match &self.socket {
            Socket::Registered(fd) => fd.get_ref(),
            Socket::Parked(fd) => fd,
            Socket::Closed => return true,
        };
        let mut polled = [PollFd::new(fd, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }

    /// Reads and throws away, after TLS has broken; false when there is nothing (more).
    pub(super) fn discard(&mut self, cx: &mut Context<'_>) -> bool {
        if self.gone {
            return false;
        }
        let mut scratch = [0; 4096];
        matches!(self.receive(cx, &mut scratch), Arrival::Data(_))
    }

    /// Whether the other end has gone altogether; otherwise the task is woken when it does.
    pub(super) fn watch_hangup(&mut self, cx: &mut Context<'_>) -> bool {
        let Socket::Registered(fd) = &self.socket else { return true };
        loop {
            match fd.poll_write_ready(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(mut guard)) if !guard.ready().is_write_closed() => guard.clear_ready(),
                Poll::Ready(_) => {
                    self.gone = true;
                    return true;
                }
            }
        }
    }

    /// Shuts the front's writing side down, once, or both sides; true when that was news.
    pub(super) fn shut(&mut self, both: bool) -> bool {
        if self.shut && (self.shut_both || !both) {
            return false;
        }
        self.shut = true;
        self.shut_both = both;
        let fd = match &self.socket {
            Socket::Registered(fd) => fd.get_ref(),
            Socket::Parked(fd) => fd,
            Socket::Closed => return false,
        };
        // Fails only where the other end has gone already.
        let _ = shutdown(fd, if both { Shutdown::Both } else { Shutdown::Write });
        true
    }
}
