//! Executes a request of a lock-step connection, and sends the answer.

use super::frame::whole;
use super::session::{Answered, frame, invalid};
use super::spin::After;
use super::{LockStep, Reply, Step, Transition};
use crate::{
    authorization::admission,
    handshake,
    runtime::{
        connection::{Command, Stage},
        sockets::{self},
    },
};
use luassl_protocol::{ErrorCode, FRAME_HEADER, Failure, LockStepAnswer, LockStepRequest, MAX_SPIN_DATA};
use luassl_tls::{self as tls, Decision};
use openssl::ssl::SslContext;
use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use std::io;
use tokio::time::timeout;

impl LockStep {
    pub(super) fn execute_kept(&mut self) -> Step {
        let kept = std::mem::take(&mut self.inbox);
        let step = match whole(&kept) {
            Ok(Some(body)) if FRAME_HEADER + body.len() == kept.len() => self.execute(body),
            _ => return Step::Gone,
        };
        if matches!(step, Step::NeedsSignature) {
            self.inbox = kept;
        }
        step
    }

    pub(super) fn execute(&mut self, body: &[u8]) -> Step {
        let answered = match LockStepRequest::decode(body) {
            Err(error) => frame(&LockStepAnswer::failed(Failure::from(&error))),
            Ok(LockStepRequest::Close) => {
                return Step::Reply(Reply { frame: self.session.close(), last: true });
            }
            Ok(LockStepRequest::ClientHello { context: Some(context), alpn, refuse }) => {
                return Step::Decides { context, alpn: alpn.map(str::to_owned), refuse };
            }
            Ok(request) => self.answer(&request),
        };
        self.step(answered)
    }

    pub(super) fn step(&mut self, answered: Answered) -> Step {
        match answered {
            Answered::NeedsSignature => Step::NeedsSignature,
            Answered::Frame(frame) => {
                if frame.len() > MAX_SPIN_DATA {
                    self.spin.answers(After::Bulk);
                }
                Step::Reply(Reply { frame, last: false })
            }
        }
    }

    pub(super) fn answer(&mut self, request: &LockStepRequest<'_>) -> Answered {
        self.spin.answers(match request {
            LockStepRequest::Read { .. } => After::Read,
            LockStepRequest::Write { data } if data.len() <= MAX_SPIN_DATA => After::Write,
            LockStepRequest::Write { .. } => After::Bulk,
            _ => After::Other,
        });
        let session = &mut self.session;
        let answered = match *request {
            LockStepRequest::Handshake => session.handshake(),
            LockStepRequest::Read { max } => return session.read(max),
            LockStepRequest::Write { data } => return session.write(data),
            LockStepRequest::Shutdown => return session.shutdown(),
            LockStepRequest::Info => return session.tell_info(),
            LockStepRequest::Facts => return session.facts(),
            LockStepRequest::ClientHello { alpn, refuse, .. } => {
                return self.decided(None, alpn.map(str::to_owned), refuse);
            }
            LockStepRequest::Psk { .. } => return invalid("no handshake waits for a key"),
            LockStepRequest::Close | LockStepRequest::Unknown(_) => {
                let failure = Failure::new(ErrorCode::UnknownOperation, "this question is not known here");
                return frame(&LockStepAnswer::failed(failure));
            }
        };
        self.note_end_of_handshake();
        answered
    }

    pub(super) fn note_end_of_handshake(&mut self) {
        if !self.session.is_handshaking() && self.handshaking.take().is_some() {
            self.handshake_is_over();
        }
    }

    pub(super) fn handshake_is_over(&mut self) {
        tls::ask_for_keys_by(self.session.ssl(), None);
        self.handshake_until = None;
        if self.session.is_established() {
            self.connection.is_now(Stage::LockStep);
            self.authority.counters.handshake_done(&self.connection.owner);
            if let Err(failure) = admission::admit(&self.authority, &self.connection, self.session.ssl()) {
                self.connection.withdraw(failure);
            }
        } else if let Some(failure) = self.session.failure() {
            self.authority.counters.handshake_failed(&self.connection.owner, failure);
        }
    }

    /// Continues the handshake with the program's decision.
    pub(super) fn decided(
        &mut self,
        context: Option<SslContext>,
        alpn: Option<String>,
        refuse: bool,
    ) -> Answered {
        if self.handshaking.is_none() {
            return invalid("no handshake waits for a decision");
        }
        let answered = self.session.decided(Decision { context, alpn, refuse });
        self.note_end_of_handshake();
        answered
    }

    /// Continues the handshake with another context, which is built within the deadline of a handshake.
    pub(super) async fn decides(&mut self, number: u64, alpn: Option<String>, refuse: bool) -> Step {
        let deadline = self.authority.limits().handshake();
        let context = match &self.handshaking {
            None => Err(Failure::new(ErrorCode::Invalid, "no handshake waits for a decision")),
            Some(handshaking) => {
                let (contexts, floors) = (handshaking.contexts.clone(), handshaking.floors);
                let peer = sockets::peer(self.session.fd());
                let made = contexts.for_server(number, floors, peer);
                let made = timeout(deadline, made).await;
                let made = made.unwrap_or_else(|_| Err(handshake::not_in_time(deadline)));
                made.inspect(|_| {
                    contexts.standing(number).into_iter().for_each(|one| self.connection.rests_on(one));
                })
            }
        };
        self.spin.answers(After::Other);
        let answered = match context {
            Ok(context) => self.decided(Some(context), alpn, refuse),
            Err(failure) => frame(&LockStepAnswer::failed(failure)),
        };
        self.step(answered)
    }

    /// Sends the answer, and returns the next transition.
    pub(super) async fn finish(&mut self, step: Step) -> Transition {
        let step = match step {
            Step::Decides { context, alpn, refuse } => self.decides(context, alpn, refuse).await,
            step => step,
        };
        let reply = match step {
            Step::Reply(reply) => reply,
            Step::NeedsSignature => return Transition::Sign,
            Step::Wait => return Transition::Ask,
            // `Step::Decides` has already been handled.
            Step::Decides { .. } | Step::Gone => return Transition::Over,
        };
        // The frame fits at once, unless the client does not read.
        let sent = match self.send_some(&reply.frame) {
            Ok(count) if count == reply.frame.len() => true,
            Ok(count) => {
                let deadline = self.authority.limits().request();
                matches!(timeout(deadline, self.send_all(&reply.frame[count..])).await, Ok(Ok(())))
            }
            Err(_) => false,
        };
        if reply.last || !sent { Transition::Over } else { Transition::Ask }
    }

    /// Sends what the socket has room for. Returns the number of bytes sent.
    pub(super) fn send_some(&self, frame: &[u8]) -> Result<usize, Errno> {
        let socket = self.lua.registered().ok_or(Errno::NOTCONN)?;
        match send(socket.get_ref(), frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(0),
            outcome => outcome,
        }
    }

    pub(super) async fn send_all(&self, mut frame: &[u8]) -> io::Result<()> {
        let socket = self.lua.registered().ok_or(Errno::NOTCONN)?;
        while !frame.is_empty() {
            match self.send_some(frame)? {
                0 => socket.writable().await?.clear_ready(),
                count => frame = &frame[count..],
            }
        }
        Ok(())
    }

    /// Executes a command from the control socket, between two requests.
    pub(super) fn command(&mut self, command: Command) -> Transition {
        match command {
            Command::Ask(question) => question(self.session.ssl(), Some(self.session.fd())),
            Command::Renegotiate(reply) => {
                let message = "a connection in lock-step mode is not renegotiated";
                // The principal may have disconnected.
                let _ = reply.send(Err(Failure::new(ErrorCode::Invalid, message)));
            }
            Command::Close(reply) => {
                drop(self.session.close());
                let _ = reply.send(Ok(luassl_protocol::Done {}));
                return Transition::Over;
            }
            Command::Withdraw(failure) => {
                self.session.withdraw(failure);
                if self.handshaking.take().is_some() {
                    self.handshake_is_over();
                }
            }
        }
        Transition::Ask
    }
}
