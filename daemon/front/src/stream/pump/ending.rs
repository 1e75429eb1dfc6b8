//! The end of a connection: TCP's FIN when both directions have ended, and a deadline for a connection that drains.

use crate::stream::pump::{Next, Outbound, Pump, drain::Drain};
use luassl_protocol::{ErrorCode, Failure};
use std::task::{Context, Poll};
use tokio::time::sleep_until;

impl Pump {
    /// Takes the next step towards the end. Returns false if no step is due.
    pub(super) fn conclude(&mut self, cx: &mut Context<'_>) -> bool {
        if self.send_close_notify(cx) || self.lua_has_just_gone(cx) {
            return true;
        }
        if self.tcp_closed {
            return self.end_with_lua();
        }
        if !self.fin_sent && self.has_nothing_to_do() {
            self.tls.get_ref().finish_sending();
            self.fin_sent = true;
        }
        if self.fin_sent && self.tls.get_mut().poll_discard(cx).is_ready() {
            self.close_tcp();
            return true;
        }
        false
    }

    /// Checks for Lua's hang-up if no receive does.
    fn lua_has_just_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let hears = self.outbound == Outbound::Open
            && !self.tls.get_ref().is_backlogged()
            && self.from_lua.is_empty();
        !hears && !self.lua.is_gone() && self.lua.watch_hangup(cx)
    }

    /// Ends the connection after TCP has ended. Lua may still read what is left, and query how the connection ended.
    fn end_with_lua(&mut self) -> bool {
        if self.lua.is_gone() && self.next.is_none() {
            self.next = Some(Next::Over);
        }
        false
    }

    fn has_nothing_to_do(&self) -> bool {
        self.has_sent_everything() && (self.inbound_ended || self.lua.is_gone())
    }

    fn has_sent_everything(&self) -> bool {
        self.outbound == Outbound::Ended && !self.tls.get_ref().is_backlogged()
    }

    pub(super) fn close_tcp(&mut self) {
        self.tls.get_mut().close();
        self.tcp_closed = true;
        self.drain = None;
        self.stop_sending();
        if !self.inbound_ended {
            self.peer_ended(Failure::new(ErrorCode::Cut, "closed here before the peer had closed"));
        }
    }

    /// Returns whether the connection only waits for its end. This is so if Lua's side has gone, if both sides have
    /// ended, or after a close message whose close_notify the peer has not taken. A half-close alone is no such end,
    /// because a peer may be slow to read.
    fn is_draining(&self) -> bool {
        let closing = self.close_requested && !self.has_sent_everything();
        let over = self.outbound == Outbound::Ended && self.inbound_ended;
        !self.tcp_closed && (self.lua.is_gone() || over || closing)
    }

    /// Returns whether the deadline has passed. While a connection drains, its deadline starts at its last progress.
    pub(super) fn deadline_has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.is_draining() {
            self.drain = None;
            return false;
        }
        let progress = self.tls.get_ref().bytes_sent;
        let drain = self.drain.get_or_insert_with(|| Drain::new(progress));
        if drain.progress != progress {
            *drain = Drain::new(progress);
        }
        if self.next.is_some() {
            return false;
        }
        let at = drain.since + self.shutdown_after;
        let sleep = drain.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        matches!(sleep.as_mut().poll(cx), Poll::Ready(()))
    }

    /// Ends TCP, because the peer takes nothing more. Lua may still read what the peer had sent.
    pub(super) fn give_up(&mut self) {
        tracing::debug!("a connection was closed in the middle of draining: no progress");
        self.close_tcp();
    }
}
