//! The TCP socket under a lock-step session. Lua polls it, so nothing is taken from it but what is asked for: record by
//! record where OpenSSL wants to read on its own, and for a read one batch, all of which OpenSSL decrypts at once.

use super::super::{
    buffers::{self, Buffers, Leftover},
    sockets::Tcp,
};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::{
    io::{self, Read, Write},
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
};

/// A socket that OpenSSL reads and writes itself, without ever waiting and without changing a flag of it.
pub(super) struct Direct {
    tcp: Tcp,
    /// What a batch had left when the session was suspended in the middle of it.
    saved: Leftover,
    batch: Option<Batch>,
    /// The peer has ended TCP.
    pub(super) end_of_file: bool,
}

/// What one receive has brought, in the thread's buffer.
struct Batch {
    buffers: Buffers,
    unread: Range<usize>,
    /// How much may be received; 0 once that has been done.
    room: usize,
}

impl Direct {
    pub(super) fn new(tcp: Tcp) -> Self {
        Self { tcp, saved: Leftover::default(), batch: None, end_of_file: false }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }

    /// From here to [`Direct::end_batch`] one receive of at most `room` bytes serves all that OpenSSL reads.
    pub(super) fn begin_batch(&mut self, room: usize) {
        let buffers = buffers::lend();
        let room = room.min(buffers.cipher_in.len()).saturating_sub(self.saved.rest().len());
        self.batch = Some(Batch { buffers, unread: 0..0, room });
    }

    /// Keeps what OpenSSL has not taken: all of it has been, unless the session is suspended or at its end.
    pub(super) fn end_batch(&mut self) {
        if let Some(batch) = self.batch.take() {
            if !batch.unread.is_empty() {
                // There is a batch only where nothing is saved any more.
                self.saved.keep(&batch.buffers.cipher_in[batch.unread]);
            }
            buffers::give_back(batch.buffers);
        }
    }

    /// Whether OpenSSL has something to read here that the readiness of the socket does not show.
    pub(super) fn has_more(&self) -> bool {
        !self.saved.is_empty() || self.batch.as_ref().is_some_and(|batch| !batch.unread.is_empty())
    }

    /// Forgets what follows the end of the session.
    pub(super) fn forget(&mut self) {
        self.saved.clear();
    }
}

fn receive(tcp: &Tcp, into: &mut [u8]) -> io::Result<usize> {
    let received = rustix::io::retry_on_intr(|| recv(tcp, &mut *into, RecvFlags::DONTWAIT));
    Ok(received.map(|(_, count)| count)?)
}

impl Read for Direct {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.saved.is_empty() {
            let take = into.len().min(self.saved.rest().len());
            into[..take].copy_from_slice(&self.saved.rest()[..take]);
            self.saved.advance(take);
            return Ok(take);
        }
        let Some(batch) = &mut self.batch else {
            let count = receive(&self.tcp, into)?;
            self.end_of_file = count == 0;
            return Ok(count);
        };
        if batch.unread.is_empty() {
            let room = std::mem::take(&mut batch.room);
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = receive(&self.tcp, &mut batch.buffers.cipher_in[..room])?;
            self.end_of_file = count == 0;
            batch.unread = 0..count;
        }
        let take = into.len().min(batch.unread.len());
        let from = batch.unread.start;
        into[..take].copy_from_slice(&batch.buffers.cipher_in[from..from + take]);
        batch.unread.start += take;
        Ok(take)
    }
}

impl Write for Direct {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::io::retry_on_intr(|| send(&self.tcp, data, flags))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
