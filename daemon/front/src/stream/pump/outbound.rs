//! Lua's side: from its socket to TLS.

use crate::stream::pump::{Outbound, Pump};
use crate::stream::{
    buffers,
    plaintext_socket::{Arrival, End},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;

impl Pump {
    /// Encrypts what Lua wrote, one batch at a time, and not before the previous batch has been sent.
    pub(super) fn move_outbound(&mut self, cx: &mut Context<'_>) -> bool {
        self.flush(cx);
        if self.outbound != Outbound::Open || self.next.is_some() || self.tls.get_ref().is_backlogged() {
            return false;
        }
        if !self.from_lua.is_empty() {
            return self.encrypt_leftover(cx);
        }
        buffers::with_plain(|plain| match self.hear_lua(cx, plain) {
            Arrival::Data(count) => {
                let taken = self.encrypt(cx, &plain[..count]);
                if self.outbound == Outbound::Open && taken < count {
                    self.from_lua.stash(&plain[taken..count]);
                }
                true
            }
            Arrival::End(end) => {
                let clean = self.close_requested || end == End::HalfClosed;
                self.outbound = if clean { Outbound::Closing } else { Outbound::Ended };
                true
            }
            Arrival::Nothing if self.close_requested => {
                self.outbound = Outbound::Closing;
                true
            }
            Arrival::Nothing => false,
        })
    }

    /// Receives what Lua wrote. A close message arrives by another socket than the data that was written before it,
    /// whose event may not have been seen.
    fn hear_lua(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Arrival {
        if self.close_requested { self.lua.receive_now(room) } else { self.lua.receive(cx, room) }
    }

    fn encrypt_leftover(&mut self, cx: &mut Context<'_>) -> bool {
        let mut leftover = std::mem::take(&mut self.from_lua);
        leftover.advance(self.encrypt(cx, leftover.rest()));
        if self.outbound == Outbound::Open {
            self.from_lua = leftover;
        }
        self.from_lua.is_empty()
    }

    /// Encrypts into the transport's buffer. Returns the number of bytes taken.
    fn encrypt(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> usize {
        let mut taken = 0;
        while taken < plain.len() {
            match Pin::new(&mut self.tls).poll_write(cx, &plain[taken..]) {
                Poll::Ready(Ok(count)) => taken += count,
                Poll::Ready(Err(error)) => {
                    self.tls_error(&error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        taken
    }

    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        if !self.tcp_closed
            && let Poll::Ready(Err(_)) = self.tls.get_mut().poll_send(cx)
        {
            // What the peer sent before it went is still to be read, and gives more information than this error.
            self.stop_sending();
        }
    }

    /// Stops sending to the peer. Lua's writes fail from now on.
    pub(super) fn stop_sending(&mut self) {
        self.outbound = Outbound::Ended;
        self.from_lua.clear();
        self.lua.refuse();
    }

    /// Sends close_notify if it is due. Returns false if it is not due, or cannot be sent yet. OpenSSL is asked only
    /// once, because it treats a second call as a request to read the peer's close_notify.
    pub(super) fn send_close_notify(&mut self, cx: &mut Context<'_>) -> bool {
        // During a handshake close_notify cannot be sent. If the peer has ended, the handshake does not continue.
        let handshaking = !self.tls.ssl().is_init_finished() && !self.inbound_ended;
        if self.outbound != Outbound::Closing || handshaking || self.tls.get_ref().is_backlogged() {
            return false;
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.tls).poll_shutdown(cx) {
            tracing::debug!("no close_notify: {error}");
        }
        self.outbound = Outbound::Ended;
        if self.close_requested {
            self.lua.refuse();
        }
        true
    }
}
