//! A connection in stream mode: plaintext is transferred on a Unix socket; all other operations use its
//! token.

use crate::client::{Client, DaemonEpoch};
use crate::control::REQUEST;
use crate::deadline::{Deadline, Timeout};
use crate::error::Error;
use luassl_protocol::{
    ConnectionRef, Done, Export, Exported, FRAME_HEADER, HandshakeResult, Info, LuaCode, MAX_RESULT, Matched,
    PeerCertificate, PeerMatches, Request, SetOption, SocketOption, Token, from_body,
};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::rc::Rc;
use std::time::Duration;

/// The time that a close waits for the peer to close its side.
const DRAIN: Duration = Duration::from_secs(5);
/// The time that the daemon has to confirm a close.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// The deadline of a renegotiation. It is longer than the daemon's own deadline for handshakes, so that its
/// answer arrives.
const RENEGOTIATION: Duration = Duration::from_secs(40);

/// One TLS connection. Dropping it closes its descriptor without close_notify.
pub struct Stream {
    client: Rc<Client>,
    socket: Option<OwnedFd>,
    token: Token,
    daemon_epoch: DaemonEpoch,
    handshake: Handshake,
    end: Option<Error>,
}

enum Handshake {
    /// The result has not arrived yet; this is the received part of its frame.
    Awaited(Vec<u8>),
    Done(Box<Info>),
    Failed(Error),
}

/// An incomplete write.
#[derive(Debug, PartialEq, Eq)]
pub struct WriteError {
    /// The reason; its code is never 0.
    pub error: Error,
    /// The number of bytes that were written before.
    pub written: usize,
}

impl Stream {
    /// Creates a connection whose handshake result will arrive on `socket`.
    pub(crate) fn awaiting(client: &Rc<Client>, socket: OwnedFd, token: Token) -> Self {
        Self::with(client, socket, token, Handshake::Awaited(Vec::new()))
    }

    /// Creates a connection that was delivered with its result.
    pub(crate) fn established(client: &Rc<Client>, socket: OwnedFd, token: Token, info: Info) -> Self {
        Self::with(client, socket, token, Handshake::Done(Box::new(info)))
    }

    fn with(client: &Rc<Client>, socket: OwnedFd, token: Token, handshake: Handshake) -> Self {
        let daemon_epoch = client.daemon_epoch();
        Self { client: Rc::clone(client), socket: Some(socket), token, daemon_epoch, handshake, end: None }
    }

    /// Returns whether the connection has neither been closed nor failed in its handshake.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns the descriptor, which becomes readable when data or the result of the handshake is available.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Waits until the handshake has ended.
    ///
    /// # Errors
    /// Returns the failure of the handshake on every call. Returns an error on timeout, after which it may be
    /// called again.
    pub fn handshake(&mut self, timeout: Timeout) -> Result<(), Error> {
        match &self.handshake {
            Handshake::Done(_) => Ok(()),
            Handshake::Failed(error) => Err(error.clone()),
            Handshake::Awaited(_) => self.await_handshake(timeout.deadline()),
        }
    }

    fn await_handshake(&mut self, deadline: Deadline) -> Result<(), Error> {
        let outcome = self.handshake_result(deadline);
        match outcome {
            Ok(HandshakeResult { error: None, info }) => {
                self.handshake = Handshake::Done(Box::new(info.unwrap_or_default()));
                Ok(())
            }
            Err(error) if error.code == LuaCode::Timeout && self.end.is_none() => Err(error),
            Ok(HandshakeResult { error: Some(failure), .. }) => Err(self.fail(failure.into())),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Converts a failure of the handshake, which is never reported as a clean close.
    fn fail(&mut self, mut error: Error) -> Error {
        if error.code == LuaCode::Closed {
            error.code = LuaCode::Cut;
        }
        self.socket = None;
        self.handshake = Handshake::Failed(error.clone());
        error
    }

    fn handshake_result(&mut self, deadline: Deadline) -> Result<HandshakeResult, Error> {
        let garbage = || Error::new(LuaCode::Daemon, "the daemon sent a malformed handshake result");
        loop {
            let Handshake::Awaited(frame) = &self.handshake else { return Err(garbage()) };
            let wanted = match frame.first_chunk::<FRAME_HEADER>() {
                None => FRAME_HEADER,
                Some(header) => FRAME_HEADER + u32::from_be_bytes(*header) as usize,
            };
            if wanted > FRAME_HEADER + MAX_RESULT {
                return Err(garbage());
            }
            if frame.len() == wanted && wanted > FRAME_HEADER {
                return from_body(&frame[FRAME_HEADER..]).map_err(|_| garbage());
            }
            // Data after the frame is not read: it is plaintext, and must stay in the socket for poll(2).
            let mut rest = vec![0; wanted - frame.len()];
            let length = self.receive(&mut rest, deadline, "no handshake result yet")?;
            if let Handshake::Awaited(frame) = &mut self.handshake {
                frame.extend_from_slice(&rest[..length]);
            }
        }
    }

    /// Reads available data into `buffer`. Waits for the first byte.
    ///
    /// # Errors
    /// Returns how the connection ended (code 0 for a clean close) on every call, or an error on timeout.
    pub fn read(&mut self, buffer: &mut [u8], timeout: Timeout) -> Result<usize, Error> {
        self.handshake(timeout)?;
        if let (Some(end), true) = (&self.end, self.is_open()) {
            return Err(end.clone());
        }
        self.receive(buffer, timeout.deadline(), "nothing to read")
    }

    fn receive(&mut self, buffer: &mut [u8], deadline: Deadline, what: &str) -> Result<usize, Error> {
        let flags = if deadline.is_never() { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        loop {
            let Some(socket) = &self.socket else { return Err(closed_here()) };
            match recv(socket, &mut *buffer, flags) {
                Ok((_, length)) if length > 0 => return Ok(length),
                Err(Errno::INTR) => {}
                // The program may have made the descriptor non-blocking.
                Err(Errno::AGAIN) => match deadline.wait(socket.as_fd(), PollFlags::IN) {
                    Ok(true) => {}
                    Ok(false) => return Err(Error::timeout(what)),
                    Err(_) => return Err(self.find_end()),
                },
                Ok(_) | Err(_) => return Err(self.find_end()),
            }
        }
    }

    fn find_end(&mut self) -> Error {
        if self.end.is_none() {
            self.end = Some(self.client.verdict(self.token, self.daemon_epoch));
        }
        self.end.clone().unwrap_or_else(Error::daemon_gone)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Returns [`WriteError`] with the number of bytes that were written before the timeout or the
    /// connection's end.
    pub fn write(&mut self, bytes: &[u8], timeout: Timeout) -> Result<(), WriteError> {
        self.handshake(timeout).map_err(|error| WriteError { error, written: 0 })?;
        let flags = if timeout == Timeout::Never { SendFlags::empty() } else { SendFlags::DONTWAIT };
        let mut deadline = None;
        let mut written = 0;
        while written < bytes.len() {
            let failed = |error| WriteError { error, written };
            let Some(socket) = &self.socket else { return Err(failed(closed_here())) };
            match send(socket, &bytes[written..], flags | SendFlags::NOSIGNAL) {
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let deadline = *deadline.get_or_insert_with(|| timeout.deadline());
                    match deadline.wait(socket.as_fd(), PollFlags::OUT) {
                        Ok(true) => {}
                        Ok(false) => return Err(failed(Error::timeout("the peer does not read"))),
                        Err(_) => return Err(failed(self.write_end())),
                    }
                }
                Err(_) => return Err(failed(self.write_end())),
            }
        }
        Ok(())
    }

    /// Returns the reason why no more data can be written. Data that can still be read is kept.
    fn write_end(&self) -> Error {
        let verdict = self.end.clone().unwrap_or_else(|| self.client.verdict(self.token, self.daemon_epoch));
        match verdict.code {
            LuaCode::Closed => Error::new(LuaCode::Cut, "the peer has closed the connection"),
            _ => verdict,
        }
    }

    /// Returns the number of bytes that can be read without waiting.
    ///
    /// # Errors
    /// Returns an error if the connection is closed.
    pub fn pending(&self) -> Result<u64, Error> {
        let Some(socket) = &self.socket else { return Err(closed_here()) };
        match self.handshake {
            Handshake::Done(_) => rustix::io::ioctl_fionread(socket).map_err(|_| closed_here()),
            _ => Ok(0),
        }
    }

    /// Sends close_notify after all written data. Unless the timeout is zero, waits up to 5 s for the peer to
    /// close its side, and reads data that arrives until then into `scratch` and discards it.
    ///
    /// # Errors
    /// Returns an error if the daemon cannot be reached. The descriptor is closed anyway.
    pub fn close(&mut self, scratch: &mut [u8], timeout: Timeout) -> Result<(), Error> {
        let Some(socket) = self.socket.take() else { return Ok(()) };
        let clean = self.end.as_ref().is_none_or(|end| end.code == LuaCode::Closed);
        if !clean || !matches!(self.handshake, Handshake::Done(_)) {
            return Ok(());
        }
        // A short timeout limits only the wait for the peer, because the daemon answers at once.
        let confirmation = if timeout.is_zero() { timeout } else { Timeout::After(CONFIRMATION) };
        match self.ask::<Done>(&Request::Close(self.connection_ref()), confirmation) {
            Ok(_) => {}
            Err(error) if matches!(error.code, LuaCode::Daemon | LuaCode::Timeout) => return Err(error),
            // The connection has already ended; there is nothing left to close.
            Err(_) => return Ok(()),
        }
        if self.end.is_none() && !timeout.is_zero() {
            drain(&socket, scratch, timeout.bounded(DRAIN));
        }
        Ok(())
    }

    /// Closes the descriptor at once, without close_notify.
    pub fn cut(&mut self) {
        self.socket = None;
    }

    /// Returns information about the connection. It is current if the daemon can be reached.
    ///
    /// # Errors
    /// Returns an error if there was no handshake.
    pub fn info(&mut self, timeout: Timeout) -> Result<Info, Error> {
        self.handshake(timeout)?;
        if self.socket.is_some()
            && self.end.is_none()
            && let Ok(info) = self.ask::<Info>(&Request::Info(self.connection_ref()), timeout)
        {
            self.handshake = Handshake::Done(Box::new(info));
        }
        Ok(self.known().clone())
    }

    /// Returns the last known information about the connection. It is empty before the handshake has ended.
    #[must_use]
    pub fn known(&self) -> &Info {
        const NOTHING: &Info = &Info {
            protocol: String::new(),
            cipher: String::new(),
            bits: 0,
            group: None,
            reused: false,
            alpn: None,
            sni: None,
            verify_code: 0,
            verify_text: String::new(),
            peer_certificate: false,
            peer: String::new(),
            local: String::new(),
        };
        if let Handshake::Done(info) = &self.handshake { info } else { NOTHING }
    }

    /// Returns the peer's certificate; `None` if it sent none.
    ///
    /// # Errors
    /// Returns an error if the connection is closed, or if the daemon cannot be reached.
    pub fn peer_certificate(&mut self, timeout: Timeout) -> Result<Option<PeerCertificate>, Error> {
        self.ready(timeout)?;
        let certificate: PeerCertificate =
            self.ask(&Request::PeerCertificate(self.connection_ref()), timeout)?;
        Ok((!certificate.chain.is_empty()).then_some(certificate))
    }

    /// Returns whether the peer's certificate is for `host`, a name or an address.
    ///
    /// # Errors
    /// As [`Stream::peer_certificate`].
    pub fn peer_matches(&mut self, host: &str, timeout: Timeout) -> Result<bool, Error> {
        self.ready(timeout)?;
        let request = Request::PeerMatches(PeerMatches { token: self.token, host: host.into() });
        Ok(self.ask::<Matched>(&request, timeout)?.matches)
    }

    /// Returns keying material (RFC 5705).
    ///
    /// # Errors
    /// As [`Stream::peer_certificate`]. Also returns an error for a length that the daemon refuses.
    pub fn export(
        &mut self,
        label: &str,
        length: u32,
        context: Option<&[u8]>,
        timeout: Timeout,
    ) -> Result<Vec<u8>, Error> {
        self.ready(timeout)?;
        let context = context.map(|bytes| bytes.to_vec().into());
        let request = Request::Export(Export { token: self.token, label: label.into(), length, context });
        Ok(self.ask::<Exported>(&request, timeout)?.data)
    }

    /// Sets an option of the TCP socket.
    ///
    /// # Errors
    /// As [`Stream::peer_certificate`].
    pub fn set_option(&mut self, option: SocketOption, on: bool, timeout: Timeout) -> Result<(), Error> {
        self.ready(timeout)?;
        self.ask::<Done>(&Request::SetOption(SetOption { token: self.token, option, on }), timeout)?;
        Ok(())
    }

    /// Starts a renegotiation (TLS 1.2), or a key update or a request for the client's certificate (TLS 1.3).
    ///
    /// # Errors
    /// As [`Stream::peer_certificate`]. Also returns an error if the peer refuses.
    pub fn renegotiate(&mut self, timeout: Timeout) -> Result<(), Error> {
        self.ready(timeout)?;
        let deadline = timeout.bounded(RENEGOTIATION);
        self.client.ask_about::<Done>(
            &Request::Renegotiate(self.connection_ref()),
            self.daemon_epoch,
            deadline,
        )?;
        Ok(())
    }

    fn ready(&mut self, timeout: Timeout) -> Result<(), Error> {
        self.handshake(timeout)?;
        if self.socket.is_none() {
            return Err(closed_here());
        }
        Ok(())
    }

    fn connection_ref(&self) -> ConnectionRef {
        ConnectionRef { token: self.token }
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, request: &Request, timeout: Timeout) -> Result<T, Error> {
        self.client.ask_about(request, self.daemon_epoch, timeout.bounded(REQUEST))
    }
}

/// Reads until the peer closes its side. Closing a socket with unread data could discard the last written
/// data.
fn drain(socket: &OwnedFd, scratch: &mut [u8], deadline: Deadline) {
    if shutdown(socket, Shutdown::Write).is_err() {
        return;
    }
    while !deadline.passed() && matches!(deadline.wait(socket.as_fd(), PollFlags::IN), Ok(true)) {
        match recv(socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((_, length)) if length > 0 => {}
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => return,
        }
    }
}

fn closed_here() -> Error {
    Error::misuse("the connection is closed")
}
