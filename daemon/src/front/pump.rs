//! The pump of one established connection in stream mode: plaintext between TLS and the connection's Unix socket.
//!
//! Ends are told, not guessed: how the peer's side ended is recorded before the Unix socket is shut down, and
//! close_notify goes to the peer for a half-close or a close message of Lua's and for nothing else.

use super::{
    Front, buffers,
    connection::{Command, Connection},
    lua_end::{Arrival, LuaEnd},
    transport::Transport,
    workers::Job,
};
use crate::tls::{self, Renewal};
use luassl_protocol::{Done, ErrorCode, Failure};
use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::{Instant, Sleep},
};
use tokio_openssl::SslStream;

/// The largest plaintext of one TLS record (RFC 8446, 5.1), in bytes: less room than this is no room for another.
const RECORD: usize = 16 * 1024;

/// SSL_ERROR_WANT_X509_LOOKUP: the certificate callback has put a signature off (`tls::may_sign`).
const WANT_X509_LOOKUP: i32 = 4;

/// How far Lua's side has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outbound {
    Open,
    /// Everything that Lua wrote has been encrypted; close_notify is due.
    Closing,
    /// Nothing more will be encrypted.
    Ended,
}

/// Why a pump stopped running on its thread.
enum Next {
    /// The connection is over.
    Over,
    /// A signature is needed: to a thread that may wait for the keeper.
    Sign,
    /// The signature is made: back to a pump thread.
    Pump,
}

/// An established connection.
pub(super) struct Pump {
    front: Arc<Front>,
    connection: Arc<Connection>,
    tls: SslStream<Transport>,
    lua: LuaEnd,
    shutdown_after: Duration,
    /// Plaintext for Lua that its socket had no room for, and how much of it has been sent.
    to_lua: Vec<u8>,
    to_lua_sent: usize,
    /// Plaintext of Lua's that OpenSSL has not taken, and how much it has.
    from_lua: Vec<u8>,
    from_lua_taken: usize,
    /// The peer's side has ended.
    inbound_ended: bool,
    outbound: Outbound,
    /// No TLS in either direction any more.
    broken: bool,
    close_requested: bool,
    renegotiation: Option<oneshot::Sender<Result<Done, Failure>>>,
    fin_sent: bool,
    tcp_closed: bool,
    /// Runs while the connection drains: its start, and the progress that it was started at.
    drain: Option<(Pin<Box<Sleep>>, u64)>,
    next: Option<Next>,
}

impl Pump {
    /// Joins an established session with the front's end of a connection's Unix socket.
    pub(super) fn new(
        front: Arc<Front>,
        connection: Arc<Connection>,
        mut tls: SslStream<Transport>,
        lua: OwnedFd,
        shutdown_after: Duration,
    ) -> Self {
        tls.get_mut().park();
        Self {
            front,
            connection,
            tls,
            lua: LuaEnd::new(lua),
            shutdown_after,
            to_lua: Vec::new(),
            to_lua_sent: 0,
            from_lua: Vec::new(),
            from_lua_taken: 0,
            inbound_ended: false,
            outbound: Outbound::Open,
            broken: false,
            close_requested: false,
            renegotiation: None,
            fin_sent: false,
            tcp_closed: false,
            drain: None,
            next: None,
        }
    }

    /// Runs the connection on one of the front's pump threads, to its end.
    pub(super) fn start(self) {
        let front = Arc::clone(&self.front);
        front.pumps.spawn(self.into_job());
    }

    fn into_job(self) -> Job {
        Box::pin(self.run())
    }

    async fn run(mut self) {
        if let Err(error) = self.register() {
            self.connection.record_end(Failure::new(ErrorCode::Internal, format!("cannot pump: {error}")));
            return self.front.connections.leave(&self.connection);
        }
        match std::future::poll_fn(|cx| self.poll(cx)).await {
            Next::Over => {
                self.front.connections.leave(&self.connection);
            }
            Next::Sign => {
                self.park();
                let front = Arc::clone(&self.front);
                front.signers.spawn(self.into_job());
            }
            Next::Pump => {
                self.park();
                self.start();
            }
        }
    }

    fn register(&mut self) -> io::Result<()> {
        self.tls.get_mut().register()?;
        self.lua.register()
    }

    fn park(&mut self) {
        self.tls.get_mut().park();
        self.lua.park();
        self.drain = None;
    }

    /// One activation: everything that can move without waiting moves.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.tls.get_mut().activate(buffers::lend());
        self.take_commands(cx);
        while self.next.is_none() && self.step(cx) {}
        self.poll_drain_deadline(cx);
        if let Some(buffers) = self.tls.get_mut().deactivate() {
            buffers::give_back(buffers);
        }
        match self.next.take() {
            Some(next) => Poll::Ready(next),
            None => Poll::Pending,
        }
    }

    /// One pass over both directions; false when nothing moved.
    fn step(&mut self, cx: &mut Context<'_>) -> bool {
        let moved = self.move_inbound(cx) | self.move_outbound(cx);
        self.flush(cx);
        let concluded = self.conclude(cx);
        self.settle_renegotiation();
        moved | concluded
    }

    fn take_commands(&mut self, cx: &mut Context<'_>) {
        while let Some(command) = self.connection.next_command(cx.waker()) {
            match command {
                Command::Ask(question) => question(self.tls.ssl(), self.tls.get_ref().fd()),
                Command::Close(reply) => {
                    self.close_requested = true;
                    // The asker may have gone: then nobody needs the answer.
                    let _ = reply.send(Ok(Done {}));
                }
                Command::Renegotiate(reply) => self.begin_renegotiation(cx, reply),
            }
        }
    }

    // -- the peer's side -----------------------------------------------------------------------------------------

    /// Moves plaintext to Lua: first what was left over, then one batch.
    fn move_inbound(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.drain_leftover(cx) {
            return false;
        }
        if self.inbound_ended || self.tcp_closed || self.next.is_some() {
            return self.tell_lua_the_end();
        }
        let moved = buffers::with_plain(|plain| {
            let filled = self.decrypt(cx, plain);
            self.hand_to_lua(cx, &plain[..filled]);
            filled > 0
        });
        self.tell_lua_the_end() | moved
    }

    /// True when nothing is left over for Lua.
    fn drain_leftover(&mut self, cx: &mut Context<'_>) -> bool {
        if self.to_lua.is_empty() {
            return true;
        }
        self.to_lua_sent += self.lua.send(cx, &self.to_lua[self.to_lua_sent..]);
        if !self.lua.reads() || self.to_lua_sent == self.to_lua.len() {
            self.to_lua = Vec::new();
            self.to_lua_sent = 0;
        }
        self.to_lua.is_empty()
    }

    fn hand_to_lua(&mut self, cx: &mut Context<'_>, plain: &[u8]) {
        let sent = self.lua.send(cx, plain);
        if self.lua.reads() && sent < plain.len() {
            self.to_lua = plain[sent..].to_vec();
        }
    }

    /// Decrypts up to a batch; records the peer's end where it comes.
    fn decrypt(&mut self, cx: &mut Context<'_>, plain: &mut [u8]) -> usize {
        let mut filled = 0;
        while plain.len() - filled >= RECORD {
            let mut room = ReadBuf::new(&mut plain[filled..]);
            match Pin::new(&mut self.tls).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) if room.filled().is_empty() => {
                    self.peer_ended(self.end_of_stream());
                    break;
                }
                Poll::Ready(Ok(())) => filled += room.filled().len(),
                Poll::Ready(Err(error)) => {
                    self.tls_error(&error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        filled
    }

    fn end_of_stream(&self) -> Failure {
        if tls::peer_has_closed(self.tls.ssl()) {
            Failure::new(ErrorCode::Closed, "closed by the peer")
        } else {
            cut()
        }
    }

    fn tls_error(&mut self, error: &io::Error) {
        if let Some(ssl) = ssl_error(error) {
            if ssl.code().as_raw() == WANT_X509_LOOKUP {
                self.next = Some(Next::Sign);
                return;
            }
            let failure = tls::failure(ssl, self.tls.ssl());
            self.break_off(failure);
        } else {
            self.break_off(transport_failure(error, self.tls.get_ref().end_of_file));
        }
    }

    /// TLS is over both ways.
    fn break_off(&mut self, failure: Failure) {
        self.broken = true;
        self.from_lua = Vec::new();
        self.outbound = Outbound::Ended;
        self.peer_ended(failure);
    }

    fn peer_ended(&mut self, failure: Failure) {
        if let Some(reply) = self.renegotiation.take() {
            let _ = reply.send(Err(failure.clone()));
        }
        self.connection.record_end(failure);
        self.inbound_ended = true;
    }

    /// Shuts Lua's socket down once everything has been delivered and the verdict is recorded.
    fn tell_lua_the_end(&mut self) -> bool {
        if !self.inbound_ended || !self.to_lua.is_empty() {
            return false;
        }
        self.lua.shut(self.broken)
    }

    // -- Lua's side ----------------------------------------------------------------------------------------------

    /// Encrypts what Lua wrote, a batch at a time, and not before the last batch has left.
    fn move_outbound(&mut self, cx: &mut Context<'_>) -> bool {
        if self.broken {
            return self.lua.discard(cx);
        }
        if self.outbound != Outbound::Open || self.next.is_some() {
            return false;
        }
        self.flush(cx);
        if self.broken || self.tls.get_ref().is_backlogged() {
            self.lua.watch_hangup(cx);
            return false;
        }
        if !self.from_lua.is_empty() {
            return self.retry_leftover(cx);
        }
        buffers::with_plain(|plain| match self.next_from_lua(cx, plain) {
            Arrival::Data(count) => {
                let taken = self.encrypt(cx, &plain[..count]);
                if !self.broken && taken < count {
                    self.from_lua = plain[taken..count].to_vec();
                    self.from_lua_taken = 0;
                }
                true
            }
            Arrival::End(end) => {
                let clean = self.close_requested || end == super::lua_end::End::HalfClosed;
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

    fn next_from_lua(&mut self, cx: &mut Context<'_>, plain: &mut [u8]) -> Arrival {
        if self.close_requested { self.lua.receive_last(plain) } else { self.lua.receive(cx, plain) }
    }

    fn retry_leftover(&mut self, cx: &mut Context<'_>) -> bool {
        let leftover = std::mem::take(&mut self.from_lua);
        let before = self.from_lua_taken;
        self.from_lua_taken += self.encrypt(cx, &leftover[before..]);
        if !self.broken && self.from_lua_taken < leftover.len() {
            self.from_lua = leftover;
        }
        self.from_lua.is_empty()
    }

    /// Encrypts into the transport's buffer; returns how much was taken.
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

    fn flush(&mut self, cx: &mut Context<'_>) {
        if self.tcp_closed {
            return;
        }
        if let Poll::Ready(Err(error)) = self.tls.get_mut().poll_send(cx) {
            self.break_off(transport_failure(&error, false));
        }
    }

    // -- the end -------------------------------------------------------------------------------------------------

    /// Takes the next step towards the end that is due; false when none is.
    fn conclude(&mut self, cx: &mut Context<'_>) -> bool {
        if self.outbound == Outbound::Closing && !self.tls.get_ref().is_backlogged() {
            return self.send_close_notify(cx);
        }
        if self.tcp_closed {
            return self.await_lua(cx);
        }
        if self.outbound == Outbound::Ended
            && !self.inbound_ended
            && !self.lua.is_gone()
            && self.lua.watch_hangup(cx)
        {
            return true;
        }
        if !self.fin_sent && self.is_ended_both_ways() {
            self.tls.get_ref().finish_sending();
            self.fin_sent = true;
            return true;
        }
        if self.fin_sent && self.tls.get_mut().poll_discard(cx).is_ready() {
            self.close_tcp();
            return true;
        }
        false
    }

    fn is_ended_both_ways(&self) -> bool {
        let outbound = self.outbound == Outbound::Ended && !self.tls.get_ref().is_backlogged();
        self.broken || (outbound && (self.inbound_ended || self.lua.is_gone()))
    }

    fn send_close_notify(&mut self, cx: &mut Context<'_>) -> bool {
        match Pin::new(&mut self.tls).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => self.outbound = Outbound::Ended,
            Poll::Ready(Err(error)) => self.break_off(transport_failure(&error, false)),
            Poll::Pending => return false,
        }
        true
    }

    fn close_tcp(&mut self) {
        self.tls.get_mut().close();
        self.tcp_closed = true;
        self.drain = None;
        if !self.inbound_ended {
            self.peer_ended(Failure::new(ErrorCode::Cut, "closed here before the peer had closed"));
        }
    }

    /// After TCP has gone: Lua may still read what is left, and ask how it ended.
    fn await_lua(&mut self, cx: &mut Context<'_>) -> bool {
        if self.lua.is_gone() || self.lua.watch_hangup(cx) {
            self.next = Some(Next::Over);
            return true;
        }
        false
    }

    /// While a connection drains, it has a deadline from its last progress.
    fn poll_drain_deadline(&mut self, cx: &mut Context<'_>) {
        let draining = !self.tcp_closed
            && (self.fin_sent
                || self.lua.is_gone()
                || self.close_requested
                || self.outbound == Outbound::Closing);
        if !draining || self.next.is_some() {
            self.drain = None;
            return;
        }
        let progress = self.tls.get_ref().bytes_sent;
        let after = self.shutdown_after;
        let (sleep, at) = self.drain.get_or_insert_with(|| (Box::pin(tokio::time::sleep(after)), progress));
        if *at != progress {
            *at = progress;
            sleep.as_mut().reset(Instant::now() + after);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            self.close_tcp();
            if self.await_lua(cx) {
                return;
            }
            self.to_lua = Vec::new();
            self.tell_lua_the_end();
        }
    }

    // -- renegotiation -------------------------------------------------------------------------------------------

    fn begin_renegotiation(&mut self, cx: &mut Context<'_>, reply: oneshot::Sender<Result<Done, Failure>>) {
        if self.broken || self.inbound_ended || self.outbound != Outbound::Open {
            let _ = reply.send(Err(Failure::new(ErrorCode::Closed, "the connection has ended")));
            return;
        }
        match tls::renegotiate(&mut self.tls) {
            // The next read begins it: data of the peer's may come before its answer, and only a read takes that.
            Ok(Renewal::Handshake) if !self.connection.server => {}
            Ok(_) => {
                self.send_handshake_message(cx);
                if !self.broken && tls::request_client_certificate(&mut self.tls) {
                    self.send_handshake_message(cx);
                }
            }
            Err(failure) => {
                let _ = reply.send(Err(failure));
                return;
            }
        }
        self.renegotiation = Some(reply);
    }

    /// Sends the message that has been prepared; none of them waits for the peer.
    fn send_handshake_message(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.tls).poll_do_handshake(cx) {
            let failure = tls::failure(&error, self.tls.ssl());
            self.break_off(failure);
        }
    }

    /// Answers a request to renegotiate once the handshake that it began is over.
    fn settle_renegotiation(&mut self) {
        if tls::signing_is_allowed() && self.tls.ssl().is_init_finished() && self.next.is_none() {
            self.next = Some(Next::Pump);
        }
        if self.renegotiation.is_some()
            && self.tls.ssl().is_init_finished()
            && !tls::renegotiation_is_pending(self.tls.ssl())
            && let Some(reply) = self.renegotiation.take()
        {
            let _ = reply.send(Ok(Done {}));
        }
    }
}

impl Drop for Pump {
    /// Whatever ends a pump, its connection leaves the table (a runtime that shuts down drops its tasks).
    fn drop(&mut self) {
        if !self.tcp_closed {
            self.tls.get_mut().close();
        }
    }
}

fn cut() -> Failure {
    Failure::new(ErrorCode::Cut, "the connection was cut: it ended without close_notify")
}

/// The OpenSSL error inside of what tokio-openssl returns, where it is one.
fn ssl_error(error: &io::Error) -> Option<&openssl::ssl::Error> {
    error.get_ref()?.downcast_ref()
}

fn transport_failure(error: &io::Error, end_of_file: bool) -> Failure {
    if end_of_file {
        return cut();
    }
    Failure::new(ErrorCode::Cut, format!("the connection was cut: {error}"))
}
