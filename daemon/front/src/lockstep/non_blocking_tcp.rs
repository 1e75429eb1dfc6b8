//! The TCP socket under a lock-step session. Lua polls the socket, so only the requested data is taken from it: one
//! record at a time if OpenSSL reads by itself, and one batch for a read request, which OpenSSL decrypts completely.

use crate::{
    runtime::tcp::Tcp,
    stream::buffers::{self, Buffers, Leftover},
};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::{
    io::{self, Read, Write},
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
};

/// A socket that OpenSSL itself reads and writes. It never waits, and does not change a flag of the socket.
pub(super) struct NonBlockingTcp {
    tcp: Tcp,
    /// The rest of a batch, if the session was suspended in the middle of it.
    saved: Leftover,
    batch: Option<Batch>,
    /// Whether the peer has ended TCP.
    pub(super) end_of_file: bool,
}

/// The data of one receive, in the thread's buffer.
struct Batch {
    buffers: Buffers,
    unread: Range<usize>,
    /// The number of bytes that may be received; 0 after the receive.
    room: usize,
}

impl NonBlockingTcp {
    pub(super) fn new(tcp: Tcp) -> Self {
        Self { tcp, saved: Leftover::default(), batch: None, end_of_file: false }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }

    /// Begins a batch. Until [`NonBlockingTcp::end_batch`] one receive of at most `room` bytes serves all reads of
    /// OpenSSL.
    pub(super) fn begin_batch(&mut self, room: usize) {
        let buffers = buffers::lend();
        let room = room.min(buffers.cipher_in.len()).saturating_sub(self.saved.rest().len());
        self.batch = Some(Batch { buffers, unread: 0..0, room });
    }

    /// Ends a batch, and keeps what OpenSSL has not taken. OpenSSL has taken all of it, unless the session is suspended
    /// or at its end.
    pub(super) fn end_batch(&mut self) {
        if let Some(batch) = self.batch.take() {
            if !batch.unread.is_empty() {
                // A batch has data only if no saved data is left.
                self.saved.stash(&batch.buffers.cipher_in[batch.unread]);
            }
            buffers::give_back(batch.buffers);
        }
    }

    /// Returns whether OpenSSL has data to read here that the readiness of the socket does not show.
    pub(super) fn has_more(&self) -> bool {
        !self.saved.is_empty() || self.batch.as_ref().is_some_and(|batch| !batch.unread.is_empty())
    }

    /// Discards what follows the end of the session.
    pub(super) fn forget(&mut self) {
        self.saved.clear();
    }
}

fn receive(tcp: &Tcp, into: &mut [u8]) -> io::Result<usize> {
    let received = rustix::io::retry_on_intr(|| recv(tcp, &mut *into, RecvFlags::DONTWAIT));
    Ok(received.map(|(_, count)| count)?)
}

impl Read for NonBlockingTcp {
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

impl Write for NonBlockingTcp {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::io::retry_on_intr(|| send(&self.tcp, data, flags))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::lockstep::non_blocking_tcp::NonBlockingTcp;
    use crate::tests::peers;
    use std::io::{ErrorKind, Read, Write};

    fn pair() -> (NonBlockingTcp, impl Write) {
        let (ours, theirs) = peers::tcp_pair();
        (NonBlockingTcp::new(ours), theirs)
    }

    /// Reads the available data, after it has arrived.
    fn read(non_blocking_tcp: &mut NonBlockingTcp, into: &mut [u8]) -> usize {
        loop {
            match non_blocking_tcp.read(into) {
                Ok(count) => return count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    #[test]
    fn without_a_batch_nothing_is_taken_but_what_is_asked_for() {
        let (mut non_blocking_tcp, mut peer) = pair();
        peer.write_all(b"headerbody").unwrap();
        let mut header = [0; 6];
        assert_eq!(read(&mut non_blocking_tcp, &mut header), 6);
        assert!(!non_blocking_tcp.has_more(), "the rest is where Lua sees it: in the kernel");
        assert_eq!(read(&mut non_blocking_tcp, &mut [0; 16]), 4);
    }

    #[test]
    fn a_batch_is_one_receive_and_what_is_left_of_it_comes_first_later() {
        let (mut non_blocking_tcp, mut peer) = pair();
        peer.write_all(b"0123456789").unwrap();
        assert_eq!(read(&mut non_blocking_tcp, &mut [0; 1]), 1);
        non_blocking_tcp.begin_batch(8);
        let mut some = [0; 3];
        assert_eq!(read(&mut non_blocking_tcp, &mut some), 3);
        assert_eq!(&some, b"123");
        assert!(non_blocking_tcp.has_more());
        non_blocking_tcp.end_batch();
        assert!(non_blocking_tcp.has_more(), "kept until it is read");
        let mut rest = [0; 16];
        assert_eq!(read(&mut non_blocking_tcp, &mut rest), 5);
        assert_eq!(&rest[..5], b"45678");
        non_blocking_tcp.begin_batch(8);
        assert_eq!(read(&mut non_blocking_tcp, &mut rest), 1);
        assert_eq!(
            non_blocking_tcp.read(&mut rest).unwrap_err().kind(),
            ErrorKind::WouldBlock,
            "one receive for a batch"
        );
        non_blocking_tcp.end_batch();
    }

    #[test]
    fn the_end_of_tcp_is_remembered() {
        let (mut non_blocking_tcp, peer) = pair();
        drop(peer);
        assert_eq!(read(&mut non_blocking_tcp, &mut [0; 1]), 0);
        assert!(non_blocking_tcp.end_of_file);
    }
}
