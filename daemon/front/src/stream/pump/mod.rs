//! The pump of one established connection in stream mode: it moves plaintext between TLS and the connection's Unix
//! socket.
//!
//! Ends are reported explicitly: how the peer's side ended is recorded before the Unix socket is shut down.
//! close_notify is sent to the peer only after a half-close or a close message from Lua.
//!
//! The two directions end independently. What the peer has sent is read to its end even if nothing more can be sent to
//! it, and what Lua has written is sent even if Lua no longer reads.

mod drain;
mod ending;
mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

use crate::{
    runtime::{
        ConnectionRuntime,
        connection::{Command, Connection, Stage},
        sockets::ClientSocket,
        workers::Job,
    },
    stream::{
        buffers::{self, Leftover},
        plaintext_socket::PlaintextSocket,
        transport::Transport,
    },
};
use drain::Drain;
use luassl_protocol::{Done, ErrorCode, Failure};
use luassl_tls::{self as tls, Exclusive, Renewal};
use openssl::{error::ErrorStack, ssl::SslVersion};
use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;
use tokio_openssl::SslStream;

/// SSL_ERROR_WANT_X509_LOOKUP: the certificate callback has postponed a signature (`tls::may_sign`).
const WANT_X509_LOOKUP: i32 = 4;

/// The number of passes over both directions, each of up to a batch, before the thread's other connections get their
/// turn.
const PASSES: usize = 4;

/// The state of Lua's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outbound {
    Open,
    /// All data that Lua wrote has been encrypted. close_notify is due.
    Closing,
    /// Nothing more will be encrypted.
    Ended,
}

/// Why a pump stopped running on its thread.
enum Next {
    /// The connection is over.
    Over,
    /// A signature is needed. The pump moves to a thread that may wait for the keeper.
    Sign,
    /// The signature is made. The pump moves back to a pump thread.
    Pump,
}

/// An established connection.
pub(crate) struct Pump {
    runtime: Arc<ConnectionRuntime>,
    connection: Arc<Connection>,
    tls: SslStream<Transport>,
    lua: PlaintextSocket,
    shutdown_after: Duration,
    /// Plaintext for Lua that its socket had no room for.
    to_lua: Leftover,
    /// Plaintext from Lua that OpenSSL has not taken.
    from_lua: Leftover,
    /// Whether the peer's side has ended.
    inbound_ended: bool,
    outbound: Outbound,
    close_requested: bool,
    renegotiation: Option<oneshot::Sender<Result<Done, Failure>>>,
    /// The peer's last Finished before a certificate was requested from it. Its answer ends with another one.
    answer_before: Option<Vec<u8>>,
    fin_sent: bool,
    tcp_closed: bool,
    drain: Option<Drain>,
    next: Option<Next>,
}

impl Pump {
    /// Joins an established session with the front's end of a connection's Unix socket. `shutdown_after` is the time
    /// that the connection may drain without progress.
    pub(crate) fn new(
        runtime: Arc<ConnectionRuntime>,
        connection: Arc<Connection>,
        mut tls: SslStream<Transport>,
        lua: ClientSocket,
        shutdown_after: Duration,
    ) -> Self {
        tls.get_mut().detach();
        connection.is_now(Stage::Stream);
        Self {
            runtime,
            connection,
            tls,
            lua: PlaintextSocket::new(lua),
            shutdown_after,
            to_lua: Leftover::default(),
            from_lua: Leftover::default(),
            inbound_ended: false,
            outbound: Outbound::Open,
            close_requested: false,
            renegotiation: None,
            answer_before: None,
            fin_sent: false,
            tcp_closed: false,
            drain: None,
            next: None,
        }
    }

    /// Runs the connection on one of the front's pump threads until it ends.
    pub(crate) fn start(self) {
        let runtime = Arc::clone(&self.runtime);
        runtime.pumps.spawn(self.into_job());
    }

    pub(crate) fn into_job(self) -> Job {
        Box::pin(self.run())
    }

    async fn run(mut self) {
        if let Err(error) = self.register() {
            let failure = Failure::new(ErrorCode::Internal, format!("cannot pump: {error}"));
            return self.connection.record_end(failure);
        }
        match std::future::poll_fn(|cx| self.poll(cx)).await {
            Next::Over => {}
            Next::Sign => {
                self.detach();
                let runtime = Arc::clone(&self.runtime);
                runtime.handshake_workers.spawn(self.into_job());
            }
            Next::Pump => {
                self.detach();
                self.start();
            }
        }
    }

    fn register(&mut self) -> io::Result<()> {
        self.tls.get_mut().register()?;
        self.lua.register()
    }

    fn detach(&mut self) {
        self.tls.get_mut().detach();
        self.lua.detach();
        if let Some(drain) = &mut self.drain {
            drain.detach();
        }
    }

    /// Performs one activation: moves all data that can move without waiting, within limits.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        // An error that another session of this thread left in OpenSSL's error queue would be attributed to this
        // session.
        drop(ErrorStack::get());
        self.tls.get_mut().activate(buffers::lend());
        self.take_commands(cx);
        self.move_all(cx);
        while self.deadline_has_passed(cx) {
            self.give_up();
            self.move_all(cx);
        }
        if let Some(buffers) = self.tls.get_mut().deactivate() {
            buffers::give_back(buffers);
        }
        match self.next.take() {
            Some(next) => Poll::Ready(next),
            None => Poll::Pending,
        }
    }

    fn move_all(&mut self, cx: &mut Context<'_>) {
        for _ in 0..PASSES {
            if self.next.is_some() || !self.step(cx) {
                return;
            }
        }
        // The task is woken again after the other tasks and a check of the sockets. A plain wake would come before this
        // check.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    /// Performs one pass over both directions. Returns false if nothing moved.
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
                    // If the principal has disconnected, the answer is not needed.
                    let _ = reply.send(Ok(Done {}));
                }
                Command::Renegotiate(reply) => self.begin_renegotiation(cx, reply),
                Command::Withdraw(failure) => {
                    self.break_off(failure);
                    self.close_tcp();
                }
            }
            drop(ErrorStack::get());
        }
    }

    // -- renegotiation -------------------------------------------------------------------------------------------

    fn begin_renegotiation(&mut self, cx: &mut Context<'_>, reply: oneshot::Sender<Result<Done, Failure>>) {
        if self.inbound_ended || self.outbound != Outbound::Open {
            let _ = reply.send(Err(Failure::new(ErrorCode::Closed, "the connection has ended")));
            return;
        }
        let renewal = match tls::renegotiate(Exclusive::of(&mut self.tls, SslStream::ssl)) {
            Ok(renewal) => renewal,
            Err(failure) => {
                let _ = reply.send(Err(failure));
                return;
            }
        };
        self.renegotiation = Some(reply);
        // A client's renegotiation begins with the next read. Data from the peer may arrive before its answer, and only
        // a read takes that data.
        if renewal == Renewal::KeyUpdate || self.connection.server {
            self.send_handshake_message(cx);
            let before = tls::peer_finished(self.tls.ssl());
            if !self.inbound_ended
                && tls::request_client_certificate(Exclusive::of(&mut self.tls, SslStream::ssl))
            {
                self.answer_before = Some(before);
                self.send_handshake_message(cx);
            }
        }
    }

    /// Sends the message that has been prepared. No such message waits for the peer.
    fn send_handshake_message(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.tls).poll_do_handshake(cx) {
            let failure = tls::failure(&error, self.tls.ssl());
            self.break_off(failure);
        }
    }

    /// Answers a request to renegotiate after the handshake that it began is complete. The computation of a handshake
    /// is done on a signing thread: the pump moves there with a handshake that has begun, and back when it is complete.
    /// A client has only sent its ClientHello by then, because no answer of the peer to it can have arrived before it
    /// was flushed. In TLS 1.3 a handshake is never resumed. A key update that cannot be sent yet looks like a
    /// handshake, but computes nothing.
    fn settle_renegotiation(&mut self) {
        let at_rest = self.inbound_ended || self.tls.ssl().is_init_finished();
        if at_rest && tls::signing_is_allowed() && self.next.is_none() {
            self.next = Some(Next::Pump);
        }
        let may_compute = self.tls.ssl().version2() != Some(SslVersion::TLS1_3);
        if !at_rest && may_compute && !tls::signing_is_allowed() && self.next.is_none() {
            self.next = Some(Next::Sign);
        }
        if self.renegotiation.is_some()
            && self.tls.ssl().is_init_finished()
            && !tls::renegotiation_is_pending(self.tls.ssl())
            && self.answer_before.as_ref().is_none_or(|before| *before != tls::peer_finished(self.tls.ssl()))
            && let Some(reply) = self.renegotiation.take()
        {
            self.answer_before = None;
            let _ = reply.send(Ok(Done {}));
        }
    }

    // -- TLS's failures ------------------------------------------------------------------------------------------

    /// Handles an error of OpenSSL, or a pause that looks like one.
    fn tls_error(&mut self, error: &io::Error) {
        if let Some(excess) = tls::excess(self.tls.ssl()) {
            return self.break_off(excess);
        }
        let ended = self.tls.get_ref().end_of_file;
        match ssl_error(error) {
            Some(ssl) if ssl.code().as_raw() == WANT_X509_LOOKUP => self.next = Some(Next::Sign),
            Some(ssl) if !ended => {
                let failure = tls::failure(ssl, self.tls.ssl());
                self.break_off(failure);
            }
            _ if ended => self.break_off(cut()),
            _ => self.break_off(cut_by(error)),
        }
    }

    /// Ends TLS in both directions.
    fn break_off(&mut self, failure: Failure) {
        self.stop_sending();
        self.peer_ended(failure);
    }
}

impl Drop for Pump {
    /// Removes the connection from the table before its socket is closed, whatever ends the pump.
    fn drop(&mut self) {
        self.runtime.connections.leave(&self.connection);
    }
}

fn cut() -> Failure {
    Failure::new(ErrorCode::Cut, "the connection was cut: it ended without close_notify")
}

fn cut_by(error: &io::Error) -> Failure {
    Failure::new(ErrorCode::Cut, format!("the connection was cut: {error}"))
}

/// Returns the OpenSSL error inside an error from tokio-openssl; `None` if there is none.
fn ssl_error(error: &io::Error) -> Option<&openssl::ssl::Error> {
    error.get_ref()?.downcast_ref()
}
