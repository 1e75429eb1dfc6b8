//! The socket of one lock-step connection: a question, then its answer.

use super::outcome::Plan;
use super::patience::Patience;
use crate::client::Client;
use crate::control::{CallError, REQUEST, request_deadline};
use crate::error::Error;
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

/// Room for any answer.
pub(super) const SCRATCH: usize = FRAME_HEADER + MAX_LOCK_STEP_FRAME;

/// See the module.
pub(super) struct Link {
    socket: OwnedFd,
    pub(super) token: Token,
    patience: Patience,
}

impl Link {
    /// Gives the daemon a duplicate of the socket, which stays the program's.
    pub(super) fn begin(plan: &Plan, tcp: BorrowedFd<'_>) -> Result<Self, Error> {
        let client: &Rc<Client> = plan.context.client();
        let (socket, token) = client.session(request_deadline(), |session| {
            let request = Request::Connect(Connect {
                host: plan.host.clone(),
                sni: plan.sni.clone(),
                dane: plan.dane.clone(),
                resume: plan.resume,
                ..Connect::new(plan.context.number(session)?, plan.role, Mode::LockStep)
            });
            let answer = session.call::<Connecting>(&request, Some(tcp))?;
            let fd = answer.fd.ok_or_else(|| CallError::Garbage("no socket came with it".into()))?;
            Ok((fd, answer.fields.token))
        })?;
        // The daemon answers at once, or after its own deadlines: one that does neither does not stop the program.
        let patience = Some(2 * REQUEST);
        let set = sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience);
        let set = set.and_then(|()| sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, patience));
        set.map_err(|_| Error::daemon_gone())?;
        Ok(Self { socket, token, patience: Patience::new() })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// A daemon that has gone, or that says what cannot be read.
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
        let seen = self.look(self.patience.look(asked, frame.len()), scratch)?;
        let length = self.receive_frame(seen, scratch)?;
        self.patience.came(asked.elapsed(), frame.len().max(length));
        from_body(&scratch[FRAME_HEADER..length]).map_err(|_| garbage())
    }

    /// Sends a question whose answer nobody waits for; what does not go at once does not go.
    pub(super) fn tell(&self, question: &LockStepRequest<'_>) {
        if let Ok(frame) = question.to_frame() {
            let _ = send(&self.socket, &frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// Looks for the answer without going to sleep: how much has come.
    fn look(&self, until: Option<Instant>, scratch: &mut [u8]) -> Result<usize, Error> {
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
            // It may be the daemon that has to run here.
            thread::yield_now();
        }
    }

    /// Receives the rest of a frame of which `have` bytes have come.
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
    Error::new(LuaCode::Daemon, "the answer of the daemon cannot be read")
}
