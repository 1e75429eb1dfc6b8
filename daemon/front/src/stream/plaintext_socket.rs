//! The plaintext side of a connection: the front's end of the Unix socket that a Lua program holds.
//!
//! Writes are tried first and wait for readiness only if the socket is full. So a wait for writability can also detect
//! that the other end has gone ([`PlaintextSocket::watch_hangup`]).

use crate::runtime::{readiness::Detachable, sockets::ClientSocket};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{SendFlags, Shutdown, send, shutdown},
};
use std::{
    io,
    task::{Context, Poll},
};

/// How Lua's side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By shutdown(SHUT_WR). Lua may still read.
    HalfClosed,
    /// The last descriptor is closed.
    Lost,
}

/// The result of a receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// This number of bytes.
    Data(usize),
    /// The end of Lua's side.
    End(End),
    /// No data yet.
    Nothing,
}

/// The front's end of a connection's Unix socket.
pub(crate) struct PlaintextSocket {
    socket: Detachable<ClientSocket>,
    reads: bool,
    gone: bool,
    /// Whether Lua's side was seen to end while its descriptor was open.
    half_closed: bool,
    /// Whether the front has shut its writing side down.
    finished: bool,
    /// Whether the front receives nothing more.
    refusing: bool,
}

impl PlaintextSocket {
    pub(crate) fn new(socket: ClientSocket) -> Self {
        Self {
            socket: Detachable::Parked(socket),
            reads: true,
            gone: false,
            half_closed: false,
            finished: false,
            refusing: false,
        }
    }

    /// Registers the socket with the runtime of this thread.
    ///
    /// # Errors
    /// Returns an error if epoll does not accept the socket. In this case the socket is closed.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        self.socket.register()
    }

    /// Deregisters the socket from this thread's runtime, so that another thread's runtime may register it.
    pub(crate) fn detach(&mut self) {
        self.socket.detach();
    }

    /// Returns whether Lua may still read what is sent to it.
    pub(crate) fn reads(&self) -> bool {
        self.reads && !self.gone
    }

    /// Returns whether the last descriptor of the other end is closed. The same is returned if neither side can write.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Sends what the socket has room for. Returns the number of bytes sent.
    pub(crate) fn send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> usize {
        let Some(fd) = self.socket.registered() else { return 0 };
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

    /// Receives what Lua has written, once the socket is known to be readable.
    pub(crate) fn receive(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Arrival {
        let Some(fd) = self.socket.registered() else { return Arrival::End(End::Lost) };
        let Poll::Ready(ready) = fd.poll_read_ready(cx) else { return Arrival::Nothing };
        let Ok(mut guard) = ready else { return Arrival::End(End::Lost) };
        let closed = guard.ready().is_read_closed();
        match fd.get_ref().receive(room) {
            Ok(received) if received.count > 0 => {
                // A short read has emptied the socket, and the next data raises a new event (epoll(7)). However, a
                // receive also stops behind descriptors.
                if received.count < room.len() && !received.had_descriptors {
                    guard.clear_ready();
                }
                if closed {
                    self.note_half_close();
                }
                Arrival::Data(received.count)
            }
            Err(Errno::WOULDBLOCK) => {
                guard.clear_ready();
                // The cleared readiness leaves no waker registered. This call registers one, or finds the event that
                // arrived since.
                match fd.poll_read_ready(cx) {
                    Poll::Pending => Arrival::Nothing,
                    Poll::Ready(_) => self.receive_now(room),
                }
            }
            other => self.ended(other.is_err()),
        }
    }

    /// Receives what Lua has written before now, whether its event has been seen or not.
    pub(crate) fn receive_now(&mut self, room: &mut [u8]) -> Arrival {
        let Some(fd) = self.socket.get() else { return Arrival::End(End::Lost) };
        match fd.receive(room) {
            Ok(received) if received.count > 0 => Arrival::Data(received.count),
            Err(Errno::WOULDBLOCK) => Arrival::Nothing,
            other => self.ended(other.is_err()),
        }
    }

    /// Distinguishes a half-close from the close of the last descriptor. The error of the latter shows that unread data
    /// was lost.
    fn ended(&mut self, error: bool) -> Arrival {
        self.note_half_close();
        let up = !error && self.revents().is_some_and(|revents| !revents.contains(PollFlags::HUP));
        self.gone |= error || (!up && !self.finished);
        Arrival::End(if self.half_closed || up { End::HalfClosed } else { End::Lost })
    }

    /// Records a half-close while it can be distinguished from a closed descriptor. After the front's own SHUT_WR the
    /// kernel reports both alike, and only a close message counts.
    fn note_half_close(&mut self) {
        if !self.half_closed
            && !self.finished
            && let Some(revents) = self.revents()
        {
            self.half_closed = revents.contains(PollFlags::RDHUP) && !revents.contains(PollFlags::HUP);
        }
    }

    fn revents(&self) -> Option<PollFlags> {
        let mut polled = [PollFd::new(self.socket.get()?, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).ok()?;
        Some(polled[0].revents())
    }

    /// Returns whether the other end has gone completely. If not, the task is woken when it does.
    pub(crate) fn watch_hangup(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(fd) = self.socket.registered() else { return true };
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

    /// Lets Lua read to an end of file, behind the data that has been sent. Returns true if the socket was not shut
    /// down before.
    pub(crate) fn finish(&mut self) -> bool {
        if self.finished {
            return false;
        }
        self.note_half_close();
        self.finished = true;
        if let Some(fd) = self.socket.get() {
            // Fails only if the other end has already gone.
            let _ = shutdown(fd, Shutdown::Write);
        }
        true
    }

    /// Stops receiving from Lua. Its writes fail with EPIPE from now on, and its earlier data is discarded.
    pub(crate) fn refuse(&mut self) {
        if !std::mem::replace(&mut self.refusing, true)
            && let Some(fd) = self.socket.get()
        {
            fd.refuse();
        }
    }
}
