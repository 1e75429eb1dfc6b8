//! The socket of one lock-step connection. Each request is followed by its answer.

use crate::client::Client;
use crate::control::{CallError, REQUEST, request_deadline};
use crate::error::Error;
use crate::lockstep::outcome::HandshakeOptions;
use crate::lockstep::spin::SpinPolicy;
use luassl_protocol::{
    Connect, Connecting, FRAME_HEADER, LockStepAnswer, LockStepRequest, LuaCode, MAX_LOCK_STEP_FRAME, Mode,
    Request, Token, from_body,
};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use std::rc::Rc;
use std::thread;
use std::time::Instant;

/// The capacity of a buffer that holds any answer.
pub(super) const ANSWER_CAPACITY: usize = FRAME_HEADER + MAX_LOCK_STEP_FRAME;

/// The socket of one lock-step connection, and its token.
pub(super) struct Link {
    socket: OwnedFd,
    pub(super) token: Token,
    spin_policy: SpinPolicy,
}

impl Link {
    /// Passes a duplicate of the socket to the daemon. The program keeps the original.
    pub(super) fn begin(options: &HandshakeOptions, tcp: BorrowedFd<'_>) -> Result<Self, Error> {
        let client: &Rc<Client> = options.context.client();
        let (socket, token) = client.session(request_deadline(), |session| {
            let request = Request::Connect(Connect {
                host: options.host.clone(),
                sni: options.sni.clone(),
                dane: options.dane.clone(),
                resume: options.resume,
                ..Connect::new(options.context.number(session)?, options.role, Mode::LockStep)
            });
            let answer = session.call::<Connecting>(&request, Some(tcp))?;
            let fd = answer.fd.ok_or_else(|| CallError::Garbage("it carries no socket".into()))?;
            Ok((fd, answer.fields.token))
        })?;
        // The daemon answers at once or within its own deadlines. If it does not, the program must not block.
        let limit = Some(2 * REQUEST);
        let set = sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, limit);
        let set = set.and_then(|()| sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, limit));
        set.map_err(|_| Error::daemon_gone())?;
        Ok(Self { socket, token, spin_policy: SpinPolicy::new() })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// Returns an error if the daemon has exited, or if its answer is malformed.
    pub(super) fn ask<'s>(
        &mut self,
        question: &LockStepRequest<'_>,
        scratch: &'s mut [u8],
    ) -> Result<LockStepAnswer<'s>, Error> {
        let frame = question.to_frame().map_err(|_| garbage())?;
        let mut sent = 0;
        while sent < frame.len() {
            match send(&self.socket, &frame[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Error::daemon_gone()),
            }
        }
        let asked = Instant::now();
        let seen = self.spin(self.spin_policy.spin_until(asked, frame.len()), scratch)?;
        let length = self.receive_frame(seen, scratch)?;
        self.spin_policy.on_answer(asked.elapsed(), frame.len().max(length));
        from_body(&scratch[FRAME_HEADER..length]).map_err(|_| garbage())
    }

    /// Sends a request without waiting for its answer. Drops the data that the socket does not accept at
    /// once.
    pub(super) fn tell(&self, question: &LockStepRequest<'_>) {
        if let Ok(frame) = question.to_frame() {
            let _ = send(&self.socket, &frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// Polls for the answer without sleeping. Returns the number of received bytes.
    fn spin(&self, until: Option<Instant>, scratch: &mut [u8]) -> Result<usize, Error> {
        let Some(until) = until else { return Ok(0) };
        loop {
            match recv(&self.socket, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Error::daemon_gone()),
                Ok((_, count)) => return Ok(count),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(_) => return Err(Error::daemon_gone()),
            }
            if Instant::now() >= until {
                return Ok(0);
            }
            // The daemon may be waiting for this core.
            thread::yield_now();
        }
    }

    /// Receives the rest of a frame of which `have` bytes have arrived.
    fn receive_frame(&self, mut have: usize, scratch: &mut [u8]) -> Result<usize, Error> {
        loop {
            let wanted = match scratch[..have].first_chunk::<FRAME_HEADER>() {
                None => FRAME_HEADER,
                Some(header) => FRAME_HEADER + u32::from_be_bytes(*header) as usize,
            };
            if wanted > scratch.len() {
                return Err(garbage());
            }
            if have > FRAME_HEADER && have >= wanted {
                return Ok(wanted);
            }
            match recv(&self.socket, &mut scratch[have..], RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Error::daemon_gone()),
                Ok((_, count)) => have += count,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Error::daemon_gone()),
            }
        }
    }
}

fn garbage() -> Error {
    Error::new(LuaCode::Daemon, "the daemon sent a malformed answer")
}
