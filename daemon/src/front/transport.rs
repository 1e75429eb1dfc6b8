//! The ciphertext side of a connection: batches between OpenSSL and the TCP socket.
//!
//! Every call on the socket is non-blocking by call (MSG_DONTWAIT): O_NONBLOCK belongs to the open file, which the
//! client may share. While a connection is active it works in the thread's buffers; what is left over when it
//! pauses stays here.

use super::{buffers::Buffers, readiness};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

/// Ciphertext that waits for the peer to read, in bytes; above it OpenSSL gets no further answer through (a peer
/// that asks for key updates and reads none of them).
const MAX_BACKLOG: usize = 512 * 1024;

/// The TCP socket, with or without a runtime.
enum Socket {
    Parked(OwnedFd),
    Registered(AsyncFd<OwnedFd>),
    Closed,
}

/// A batching transport under an SSL object.
pub(super) struct Transport {
    socket: Socket,
    /// The thread's buffers, while active.
    loan: Option<Buffers>,
    /// Unread part of the loaned `cipher_in`.
    window: std::ops::Range<usize>,
    /// Ciphertext received and not yet taken by OpenSSL when the connection last paused.
    saved_in: Vec<u8>,
    /// Ciphertext not yet sent when the connection last paused.
    saved_out: Vec<u8>,
    /// How much of the outgoing buffer has been sent.
    sent: usize,
    /// Bytes that the kernel took, in all; tells progress.
    pub(super) bytes_sent: u64,
    /// Set at the end of file from TCP.
    pub(super) end_of_file: bool,
}

impl Transport {
    pub(super) fn new(tcp: OwnedFd) -> Self {
        Self {
            socket: Socket::Parked(tcp),
            loan: None,
            window: 0..0,
            saved_in: Vec::new(),
            saved_out: Vec::new(),
            sent: 0,
            bytes_sent: 0,
            end_of_file: false,
        }
    }

    /// Registers the socket with the runtime of this thread.
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

    /// Takes the socket from this thread's runtime, so that another thread's may have it.
    pub(super) fn park(&mut self) {
        match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Registered(fd) => self.socket = Socket::Parked(fd.into_inner()),
            other => self.socket = other,
        }
    }

    /// Begins an activation with the thread's buffers.
    pub(super) fn activate(&mut self, mut buffers: Buffers) {
        if !self.saved_out.is_empty() {
            buffers.cipher_out.append(&mut self.saved_out);
            self.saved_out = Vec::new();
        }
        self.loan = Some(buffers);
    }

    /// Ends an activation: what is left over is kept here, the buffers go back to the thread.
    pub(super) fn deactivate(&mut self) -> Option<Buffers> {
        let buffers = self.loan.take()?;
        if !self.window.is_empty() {
            self.saved_in.extend_from_slice(&buffers.cipher_in[self.window.clone()]);
            self.window = 0..0;
        }
        if self.sent < buffers.cipher_out.len() {
            self.saved_out = buffers.cipher_out[self.sent..].to_vec();
        }
        self.sent = 0;
        Some(buffers)
    }

    /// Whether ciphertext waits for the peer to read.
    pub(super) fn is_backlogged(&self) -> bool {
        match &self.loan {
            Some(buffers) => self.sent < buffers.cipher_out.len(),
            None => !self.saved_out.is_empty(),
        }
    }

    /// The socket, as long as it is open.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.socket {
            Socket::Parked(fd) => Some(fd.as_fd()),
            Socket::Registered(fd) => Some(fd.get_ref().as_fd()),
            Socket::Closed => None,
        }
    }

    /// Sends TCP's FIN.
    pub(super) fn finish_sending(&self) {
        if let Some(fd) = self.fd() {
            // Fails only where the connection has gone already.
            let _ = shutdown(fd, Shutdown::Write);
        }
    }

    /// Reads and throws away what the peer still sends; ready at its end or at an error.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Socket::Registered(fd), Some(buffers)) = (&self.socket, &mut self.loan) else {
            return Poll::Ready(());
        };
        loop {
            let Ok(mut guard) = ready!(fd.poll_read_ready(cx)) else { return Poll::Ready(()) };
            match recv(fd.get_ref(), &mut buffers.cipher_in[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Poll::Ready(()),
                Ok(_) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Copies saved or windowed ciphertext into `out`; false when there is none.
    fn take_buffered(&mut self, out: &mut ReadBuf<'_>) -> bool {
        if !self.saved_in.is_empty() {
            let take = out.remaining().min(self.saved_in.len());
            out.put_slice(&self.saved_in[..take]);
            self.saved_in.drain(..take);
            if self.saved_in.is_empty() {
                self.saved_in = Vec::new();
            }
            return true;
        }
        let Some(buffers) = &self.loan else { return false };
        let take = out.remaining().min(self.window.len());
        out.put_slice(&buffers.cipher_in[self.window.start..self.window.start + take]);
        self.window.start += take;
        take > 0
    }

    /// Fills the thread's buffer with one receive.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Socket::Registered(fd) = &self.socket else { return Poll::Ready(Err(not_connected())) };
        let Some(buffers) = &mut self.loan else { return Poll::Ready(Err(not_connected())) };
        loop {
            let mut guard = ready!(fd.poll_read_ready(cx))?;
            match recv(fd.get_ref(), &mut buffers.cipher_in[..], RecvFlags::DONTWAIT) {
                Ok((_, count)) => {
                    // A short read has emptied the socket: the next data raises a new event (epoll(7)).
                    if count > 0 && count < buffers.cipher_in.len() {
                        guard.clear_ready();
                    }
                    self.window = 0..count;
                    return Poll::Ready(Ok(count));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

fn not_connected() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.take_buffered(out) {
            return Poll::Ready(Ok(()));
        }
        if ready!(self.poll_fill(cx))? == 0 {
            self.end_of_file = true;
        } else {
            self.take_buffered(out);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Some(buffers) = &self.loan else { return Poll::Ready(Err(not_connected())) };
        if buffers.cipher_out.len() - self.sent > MAX_BACKLOG {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let Some(buffers) = &mut self.loan else { return Poll::Ready(Err(not_connected())) };
        buffers.cipher_out.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(buffers) = &mut this.loan else { return Poll::Ready(Ok(())) };
        while this.sent < buffers.cipher_out.len() {
            let Socket::Registered(fd) = &this.socket else { return Poll::Ready(Err(not_connected())) };
            let mut guard = ready!(fd.poll_write_ready(cx))?;
            let rest = &buffers.cipher_out[this.sent..];
            match send(fd.get_ref(), rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    this.sent += count;
                    this.bytes_sent += count as u64;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    this.sent = buffers.cipher_out.len();
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        buffers.cipher_out.clear();
        this.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Flushes alone: TCP's FIN follows when both directions have ended, and the pump decides that.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Transport {
    /// Closes the socket: taken from epoll first (a copy that a client holds would keep a live entry there), and
    /// without lingering, whatever the client has set.
    pub(super) fn close(&mut self) {
        self.park();
        if let Socket::Parked(fd) = std::mem::replace(&mut self.socket, Socket::Closed) {
            super::sockets::close(fd);
        }
    }
}
