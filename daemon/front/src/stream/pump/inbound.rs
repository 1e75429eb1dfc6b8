//! The peer's side: from TLS to Lua.

use crate::stream::buffers;
use crate::stream::pump::{Pump, cut};
use luassl_protocol::{ErrorCode, Failure};
use luassl_tls as tls;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// The largest plaintext of one TLS record (RFC 8446, 5.1), in bytes. A buffer with less room than this cannot take
/// another record.
const RECORD: usize = 16 * 1024;

impl Pump {
    /// Moves plaintext to Lua: first what was left over, then one batch.
    pub(super) fn move_inbound(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.send_leftover(cx) {
            return false;
        }
        if self.inbound_ended || self.next.is_some() {
            return self.tell_lua_the_end();
        }
        let moved = buffers::with_plain(|plain| {
            let filled = self.decrypt(cx, plain);
            self.hand_to_lua(cx, &plain[..filled]);
            filled > 0
        });
        self.tell_lua_the_end() | moved
    }

    /// Sends what is left over for Lua. Returns true if nothing is left.
    fn send_leftover(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.to_lua.is_empty() {
            let sent = self.lua.send(cx, self.to_lua.rest());
            self.to_lua.advance(sent);
            if !self.lua.reads() {
                self.to_lua.clear();
            }
        }
        self.to_lua.is_empty()
    }

    fn hand_to_lua(&mut self, cx: &mut Context<'_>, plain: &[u8]) {
        let sent = self.lua.send(cx, plain);
        if self.lua.reads() && sent < plain.len() {
            self.to_lua.stash(&plain[sent..]);
        }
    }

    /// Decrypts up to a batch. Records the peer's end if it is reached.
    fn decrypt(&mut self, cx: &mut Context<'_>, plain: &mut [u8]) -> usize {
        let mut filled = 0;
        while plain.len() - filled >= RECORD {
            let mut room = ReadBuf::new(&mut plain[filled..]);
            let read = Pin::new(&mut self.tls).poll_read(cx, &mut room);
            let count = room.filled().len();
            if let Some(excess) = tls::excess(self.tls.ssl()) {
                self.break_off(excess);
                return filled + count;
            }
            match read {
                Poll::Ready(Ok(())) if count == 0 => {
                    self.stream_ended();
                    break;
                }
                Poll::Ready(Ok(())) => filled += count,
                Poll::Ready(Err(error)) => {
                    self.tls_error(&error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        filled
    }

    fn stream_ended(&mut self) {
        if tls::peer_has_closed(self.tls.ssl()) {
            self.peer_ended(Failure::new(ErrorCode::Closed, "closed by the peer"));
        } else {
            self.break_off(cut());
        }
    }

    /// Records how the peer's side ended. The first verdict is kept.
    pub(super) fn peer_ended(&mut self, failure: Failure) {
        if let Some(reply) = self.renegotiation.take() {
            let _ = reply.send(Err(failure.clone()));
        }
        self.connection.record_end(failure);
        self.inbound_ended = true;
    }

    /// Shuts Lua's socket down after all data has been delivered and the verdict is recorded.
    fn tell_lua_the_end(&mut self) -> bool {
        self.inbound_ended && self.to_lua.is_empty() && self.lua.finish()
    }
}
