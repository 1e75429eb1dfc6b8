//! The ciphertext side of a connection: batches between OpenSSL and the TCP socket.
//!
//! Each call on the socket is non-blocking by a flag of the call (MSG_DONTWAIT), because O_NONBLOCK belongs to the open
//! file, which the client may share. While a connection is active it works in the thread's buffers. The bytes that are
//! left over when it pauses stay here.
//!
//! OpenSSL itself never sends. The caller of OpenSSL calls [`Transport::poll_send`] afterwards. So a flush never has to
//! wait inside OpenSSL, where it would be an error, because the crate's BIO sets no retry flag for it. In addition,
//! what the peer has sent is read even if nothing more can be sent.

use crate::{
    runtime::{readiness::Detachable, tcp::Tcp},
    stream::buffers::{Buffers, Leftover},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The limit on ciphertext that waits for the peer to read, in bytes. Above it OpenSSL cannot write further responses
/// (to a peer that requests key updates and reads none of them).
pub(crate) const MAX_BACKLOG: usize = 512 * 1024;

/// A batching transport under an SSL object.
pub(crate) struct Transport {
    socket: Detachable<Tcp>,
    /// The thread's buffers, while the connection is active.
    loan: Option<Buffers>,
    /// The unread part of the lent `cipher_in`.
    window: std::ops::Range<usize>,
    /// The ciphertext that was received and not yet taken by OpenSSL when the connection last paused. The window
    /// follows it.
    saved_in: Leftover,
    /// The outgoing buffer of a connection that paused with a backlog. It belongs to the connection and replaces the
    /// thread's buffer.
    saved_out: Vec<u8>,
    /// Whether the loan contains this connection's own outgoing buffer, and `saved_out` the thread's.
    swapped: bool,
    /// The number of bytes of the outgoing buffer that have been sent.
    sent: usize,
    /// The total number of bytes that the kernel accepted. It shows progress.
    pub(crate) bytes_sent: u64,
    /// Whether TCP has reached the end of file.
    pub(crate) end_of_file: bool,
    /// Why nothing more can be sent.
    send_error: Option<Errno>,
}

impl Transport {
    pub(crate) fn new(tcp: Tcp) -> Self {
        Self {
            socket: Detachable::Parked(tcp),
            loan: None,
            window: 0..0,
            saved_in: Leftover::default(),
            saved_out: Vec::new(),
            swapped: false,
            sent: 0,
            bytes_sent: 0,
            end_of_file: false,
            send_error: None,
        }
    }

    /// Registers the socket with the runtime of this thread.
    ///
    /// # Errors
    /// Returns an error if epoll does not accept the socket. In this case the socket is closed.
    pub(crate) fn register(&mut self) -> io::Result<()> {
        self.socket.register()
    }

    /// Waits until the peer has sent data, has ended its side or has gone. Reads nothing.
    ///
    /// # Errors
    /// Returns an error if the runtime of this thread ends.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(fd) = self.socket.registered() else { return Poll::Ready(Err(not_connected())) };
        fd.poll_read_ready(cx).map_ok(drop)
    }

    /// Deregisters the socket from this thread's runtime, so that another thread's runtime may register it.
    pub(crate) fn detach(&mut self) {
        self.socket.detach();
    }

    /// Closes the socket and discards what it had not taken.
    pub(crate) fn close(&mut self) {
        self.socket.close();
        self.forget_outgoing();
        self.saved_in.clear();
        self.window = 0..0;
    }

    fn forget_outgoing(&mut self) {
        if let Some(buffers) = &mut self.loan {
            buffers.cipher_out.clear();
        } else {
            self.saved_out = Vec::new();
        }
        self.sent = 0;
    }

    /// Begins an activation with the thread's buffers.
    pub(crate) fn activate(&mut self, mut buffers: Buffers) {
        if !self.saved_out.is_empty() {
            std::mem::swap(&mut buffers.cipher_out, &mut self.saved_out);
            self.swapped = true;
        }
        self.loan = Some(buffers);
    }

    /// Ends an activation. The bytes that are left over are kept here, and the buffers return to the thread.
    pub(crate) fn deactivate(&mut self) -> Option<Buffers> {
        let mut buffers = self.loan.take()?;
        if !self.window.is_empty() {
            // The window is non-empty only if no saved bytes are left.
            self.saved_in.stash(&buffers.cipher_in[self.window.clone()]);
            self.window = 0..0;
        }
        if std::mem::take(&mut self.swapped) {
            std::mem::swap(&mut buffers.cipher_out, &mut self.saved_out);
        } else {
            self.saved_out = buffers.cipher_out[self.sent..].to_vec();
            self.sent = 0;
        }
        if self.saved_out.is_empty() {
            self.saved_out = Vec::new();
        }
        Some(buffers)
    }

    /// Returns whether ciphertext waits for the peer to read.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.backlog() > 0
    }

    fn backlog(&self) -> usize {
        let outgoing = self.loan.as_ref().map_or(&self.saved_out, |buffers| &buffers.cipher_out);
        outgoing.len() - self.sent
    }

    /// Returns the socket; `None` if it is closed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.get().map(AsFd::as_fd)
    }

    /// Sends TCP's FIN.
    pub(crate) fn finish_sending(&self) {
        if let Some(fd) = self.fd() {
            // Fails only if the connection has already gone.
            let _ = shutdown(fd, Shutdown::Write);
        }
    }

    /// Sends what OpenSSL has written. Ready when the kernel has accepted all of it, or will never accept it.
    ///
    /// # Errors
    /// Returns the error of the socket, now and on each later call. The bytes that have not been sent are discarded.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = match self.send_error {
            None => ready!(self.poll_send_all(cx)),
            Some(error) => Err(error),
        };
        self.send_error = sent.err();
        self.forget_outgoing();
        Poll::Ready(sent.map_err(io::Error::from))
    }

    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        let Some(buffers) = &self.loan else { return Poll::Ready(Ok(())) };
        while self.sent < buffers.cipher_out.len() {
            let Some(fd) = self.socket.registered() else { return Poll::Ready(Err(Errno::NOTCONN)) };
            let rest = &buffers.cipher_out[self.sent..];
            match send(fd.get_ref(), rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    self.bytes_sent += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => match ready!(fd.poll_write_ready(cx)) {
                    // If a full socket is reported as closed for writing, its error queue has an entry (timestamps,
                    // which a client requested). The entry is never cleared, and there is no other event to wait for.
                    Ok(guard) if guard.ready().is_write_closed() => return Poll::Ready(Err(Errno::IO)),
                    Ok(mut guard) => guard.clear_ready(),
                    Err(_) => return Poll::Ready(Err(Errno::CANCELED)),
                },
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and discards what the peer still sends. Ready at the end of the stream or at an error.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.window = 0..0;
        self.saved_in.clear();
        let (Some(fd), Some(buffers)) = (self.socket.registered(), &mut self.loan) else {
            return Poll::Ready(());
        };
        loop {
            let Ok(mut guard) = ready!(fd.poll_read_ready(cx)) else { return Poll::Ready(()) };
            match recv(fd.get_ref(), &mut buffers.cipher_in[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Poll::Ready(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Copies saved or windowed ciphertext into `out`. Returns false if there is none.
    fn take_buffered(&mut self, out: &mut ReadBuf<'_>) -> bool {
        if !self.saved_in.is_empty() {
            let take = out.remaining().min(self.saved_in.rest().len());
            out.put_slice(&self.saved_in.rest()[..take]);
            self.saved_in.advance(take);
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
        let (Some(fd), Some(buffers)) = (self.socket.registered(), &mut self.loan) else {
            return Poll::Ready(Err(not_connected()));
        };
        loop {
            let mut guard = ready!(fd.poll_read_ready(cx))?;
            match recv(fd.get_ref(), &mut buffers.cipher_in[..], RecvFlags::DONTWAIT) {
                Ok((_, count)) => {
                    // A short read has emptied the socket. The next data raises a new event (epoll(7)).
                    if count > 0 && count < buffers.cipher_in.len() {
                        guard.clear_ready();
                    }
                    self.window = 0..count;
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::WOULDBLOCK) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// Returns an error that is not ErrorKind::NotConnected, which the openssl crate would retry forever.
fn not_connected() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the socket is closed")
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
    /// Accepts all bytes, up to the limit. Only [`Transport::poll_send`] reports a socket that has failed.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.backlog() > MAX_BACKLOG {
            let _ = ready!(self.poll_send(cx));
        }
        let this = &mut *self;
        let Some(buffers) = &mut this.loan else { return Poll::Ready(Err(not_connected())) };
        if this.sent > buffers.cipher_out.len() / 2 {
            buffers.cipher_out.drain(..std::mem::take(&mut this.sent));
        }
        buffers.cipher_out.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    /// Does nothing, as the module documentation explains.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing. TCP's FIN follows when both directions have ended, and the pump decides that.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
