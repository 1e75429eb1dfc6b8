//! The session of a lock-step connection: one request, one answer, and never a wait.

use crate::lockstep::non_blocking_tcp::NonBlockingTcp;
use crate::{
    runtime::{connection::with_addresses, tcp::Tcp},
    stream::buffers,
};
use luassl_protocol::{
    DecodeError, ErrorCode, Facts, Failure, Info, LockStepAnswer, LockStepState, MAX_LOCK_STEP_DATA,
    MIN_LOCK_STEP_READ, to_frame,
};
use luassl_tls::{self as tls, Decision};
use openssl::{
    error::ErrorStack,
    ssl::{self, ShutdownResult, Ssl, SslRef, SslStream},
};
use rustix::net::{Shutdown, shutdown};
use serde_bytes::Bytes;
use std::os::fd::BorrowedFd;

/// SSL_ERROR_WANT_X509_LOOKUP: the certificate callback has postponed a signature (`tls::may_sign`).
const WANT_X509_LOOKUP: i32 = 4;
/// SSL_ERROR_WANT_CLIENT_HELLO_CB: the session has stopped at the ClientHello.
const WANT_CLIENT_HELLO: i32 = 11;

/// OpenSSL's message for a connection that ends without close_notify (`SSL_R_UNEXPECTED_EOF_WHILE_READING`).
const UNEXPECTED_EOF: &str = "unexpected eof while reading";

/// The maximum plaintext of a record (RFC 8446, 5.1), and thus of one write call, in bytes.
const RECORD: usize = 16 * 1024;
/// The maximum ciphertext of a record, with its header and some reserve, in bytes.
const SEALED_RECORD: usize = RECORD + 2048 + 64;

/// The stage of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshaking,
    Open,
    /// The session has failed permanently, whether it was established or not.
    Failed,
}

/// The outcome of an OpenSSL call that does not succeed.
enum Blocked {
    WantRead,
    WantWrite,
    /// A signature has to be made first, on a thread that may wait for it.
    WantSignature,
    WantDecision,
    Failed,
    /// The peer has sent close_notify.
    Closed,
}

/// An answer, as a frame.
pub(super) enum Answered {
    Frame(Vec<u8>),
    /// The request has to be executed again on a thread that may sign.
    NeedsSignature,
}

/// One session over one socket.
pub(super) struct Session {
    tls: SslStream<NonBlockingTcp>,
    stage: Stage,
    established: bool,
    /// The failure that answers each later request.
    end: Option<(Failure, Option<String>)>,
    peer_closed: bool,
    close_sent: bool,
    /// The plaintext of a record that the kernel has not completely accepted.
    unsent: Vec<u8>,
}

impl Session {
    /// Creates a session over `tcp`.
    ///
    /// # Errors
    /// Returns an error if OpenSSL has no memory left.
    pub(super) fn new(ssl: Ssl, tcp: Tcp) -> Result<Self, ErrorStack> {
        Ok(Self {
            tls: SslStream::new(ssl, NonBlockingTcp::new(tcp))?,
            stage: Stage::Handshaking,
            established: false,
            end: None,
            peer_closed: false,
            close_sent: false,
            unsent: Vec::new(),
        })
    }

    /// Returns whether the handshake is still in progress.
    pub(super) fn is_handshaking(&self) -> bool {
        self.stage == Stage::Handshaking
    }

    /// Returns whether a handshake has finished, whatever happened afterwards.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    pub(super) fn ssl(&self) -> &SslRef {
        self.tls.ssl()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.tls.get_ref().fd()
    }

    /// Returns how the connection failed; `None` if it did not fail.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.end.as_ref().map(|(failure, _)| failure)
    }

    /// Runs an OpenSSL call. An error that another session of this thread left in OpenSSL's error queue would be
    /// attributed to this session.
    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut SslStream<NonBlockingTcp>) -> Result<T, ssl::Error>,
    ) -> Result<T, Blocked> {
        drop(ErrorStack::get());
        call(&mut self.tls).map_err(|error| self.blocked(&error))
    }

    /// Continues the handshake. A handshake that succeeds but exceeds a limit is a failure.
    fn advance_handshake(&mut self) -> Result<(), Blocked> {
        self.call(SslStream::do_handshake)?;
        let excess = tls::excess(self.tls.ssl());
        excess.map_or(Ok(()), |excess| Err(self.fail(excess, None)))
    }

    fn blocked(&mut self, error: &ssl::Error) -> Blocked {
        let excess = tls::excess(self.tls.ssl());
        if let Some(excess) = excess {
            return self.fail(excess, None);
        }
        match error.code() {
            ssl::ErrorCode::WANT_READ => return Blocked::WantRead,
            ssl::ErrorCode::WANT_WRITE => return Blocked::WantWrite,
            ssl::ErrorCode::ZERO_RETURN => {
                self.peer_closed = true;
                self.tls.get_mut().forget();
                return Blocked::Closed;
            }
            code if code.as_raw() == WANT_X509_LOOKUP => return Blocked::WantSignature,
            code if code.as_raw() == WANT_CLIENT_HELLO => return Blocked::WantDecision,
            _ => {}
        }
        let failure = tls::failure(error, self.tls.ssl());
        // The crate's BIO cannot report an end of file to OpenSSL, so OpenSSL does not report this error itself.
        let ended = self.tls.get_ref().end_of_file && error.io_error().is_none();
        let at_end = || ended.then(|| UNEXPECTED_EOF.to_owned());
        let reason = tls::reason(error).or_else(at_end);
        self.fail(failure, reason)
    }

    fn fail(&mut self, failure: Failure, reason: Option<String>) -> Blocked {
        self.stage = Stage::Failed;
        self.tls.get_mut().forget();
        self.end = Some((failure, reason));
        Blocked::Failed
    }

    /// Returns the answer to a request that could not be executed.
    fn blocked_answer(&mut self, blocked: Blocked, answer: LockStepAnswer<'_>) -> Answered {
        let state = match blocked {
            Blocked::WantSignature => return Answered::NeedsSignature,
            Blocked::WantRead => LockStepState::WantRead,
            Blocked::WantWrite => LockStepState::WantWrite,
            Blocked::WantDecision => {
                let client_hello = tls::take_hello(self.tls.ssl()).unwrap_or_default();
                let state = LockStepState::NeedClientHello;
                return frame(&LockStepAnswer { state, client_hello: Some(client_hello), ..answer });
            }
            Blocked::Closed => {
                let failure = Failure::new(ErrorCode::Closed, "the peer closed the connection");
                return frame(&LockStepAnswer { taken: answer.taken, ..LockStepAnswer::failed(failure) });
            }
            Blocked::Failed => {
                let (failure, reason) = self.end.clone().unwrap_or_else(no_reason);
                let failed = LockStepAnswer::failed(failure);
                return frame(&LockStepAnswer { reason, taken: answer.taken, ..failed });
            }
        };
        frame(&LockStepAnswer { state, ..answer })
    }

    pub(super) fn handshake(&mut self) -> Answered {
        match self.stage {
            Stage::Failed => return self.blocked_answer(Blocked::Failed, ok()),
            Stage::Open => return self.shaken(),
            Stage::Handshaking => {}
        }
        match self.advance_handshake() {
            Ok(()) => {
                self.stage = Stage::Open;
                self.established = true;
                self.shaken()
            }
            Err(blocked) => self.blocked_answer(blocked, ok()),
        }
    }

    fn shaken(&self) -> Answered {
        frame(&LockStepAnswer { info: Some(self.info()), pending: self.has_pending(), ..ok() })
    }

    fn info(&self) -> Info {
        with_addresses(tls::summary(self.tls.ssl()), Some(self.fd()))
    }

    fn has_pending(&self) -> bool {
        self.tls.ssl().pending() > 0
    }

    /// Continues after [`LockStepState::NeedClientHello`].
    pub(super) fn decided(&mut self, decision: Decision) -> Answered {
        if self.stage != Stage::Handshaking {
            return invalid("no handshake waits for a decision");
        }
        tls::decide(self.tls.ssl(), decision);
        self.handshake()
    }

    /// Returns why a request about data cannot be answered now; `None` if it can.
    fn refusal(&mut self) -> Option<Answered> {
        match self.stage {
            // A renegotiation computes. The peer's reply to its message is processed with this request at the earliest.
            Stage::Open if !self.tls.ssl().is_init_finished() && !tls::signing_is_allowed() => {
                Some(Answered::NeedsSignature)
            }
            Stage::Open => None,
            Stage::Handshaking => Some(invalid("the handshake has not been finished")),
            Stage::Failed => Some(self.blocked_answer(Blocked::Failed, ok())),
        }
    }

    pub(super) fn read(&mut self, max: u32) -> Answered {
        if let Some(refusal) = self.refusal() {
            return refusal;
        }
        if self.peer_closed {
            return self.blocked_answer(Blocked::Closed, ok());
        }
        let max = (max as usize).clamp(MIN_LOCK_STEP_READ, MAX_LOCK_STEP_DATA);
        buffers::with_plain(|plain| {
            let max = max.min(plain.len());
            // The received data is decrypted at once, and has to fit: the batch, and the beginning of one record before
            // it.
            if let Some(room) = max.checked_sub(SEALED_RECORD).filter(|room| *room >= SEALED_RECORD) {
                self.tls.get_mut().begin_batch(room);
            }
            let (count, blocked) = self.read_into(&mut plain[..max]);
            self.tls.get_mut().end_batch();
            let data = Some(Bytes::new(&plain[..count]));
            match blocked {
                // The decrypted data comes first. The next request encounters the rest again.
                _ if count > 0 => {
                    frame(&LockStepAnswer { data, pending: self.is_reportable(blocked.as_ref()), ..ok() })
                }
                Some(blocked) => self.blocked_answer(blocked, ok()),
                None => frame(&LockStepAnswer { data, ..ok() }),
            }
        })
    }

    /// Returns whether there is something to report that the readiness of the socket does not show.
    fn is_reportable(&self, blocked: Option<&Blocked>) -> bool {
        self.has_pending()
            || match blocked {
                Some(Blocked::WantRead) => false,
                Some(_) => true,
                None => self.tls.get_ref().has_more(),
            }
    }

    /// Decrypts the available data.
    fn read_into(&mut self, plain: &mut [u8]) -> (usize, Option<Blocked>) {
        let mut count = 0;
        while count < plain.len() {
            match self.call(|tls| tls.ssl_read(&mut plain[count..])) {
                Ok(more) => count += more,
                Err(blocked) => return (count, Some(blocked)),
            }
            if !self.tls.get_ref().has_more() && !self.has_pending() {
                break;
            }
        }
        (count, None)
    }

    pub(super) fn write(&mut self, data: &[u8]) -> Answered {
        if let Some(refusal) = self.refusal() {
            return refusal;
        }
        if self.close_sent {
            return invalid("close_notify has been sent");
        }
        if data.len() > MAX_LOCK_STEP_DATA {
            return invalid("more than one write carries");
        }
        if !data.starts_with(&self.unsent) {
            return invalid("other bytes than those of the record that is half sent");
        }
        let mut taken = 0;
        while taken < data.len() {
            // A partly sent record continues as it began.
            let length = if self.unsent.is_empty() { RECORD } else { self.unsent.len() };
            let record = &data[taken..data.len().min(taken + length)];
            match self.call(|tls| tls.ssl_write(record)) {
                Ok(count) => {
                    taken += count;
                    self.unsent.clear();
                }
                Err(blocked) => {
                    let retries = matches!(blocked, Blocked::WantWrite | Blocked::WantRead);
                    self.unsent = if retries { record.to_vec() } else { Vec::new() };
                    return self.blocked_answer(blocked, LockStepAnswer { taken: to_u32(taken), ..ok() });
                }
            }
        }
        frame(&LockStepAnswer { taken: to_u32(taken), ..ok() })
    }

    pub(super) fn shutdown(&mut self) -> Answered {
        if let Some(refusal) = self.refusal() {
            return refusal;
        }
        let complete = |complete| frame(&LockStepAnswer { complete: Some(complete), ..ok() });
        if !self.close_sent {
            return match self.call(SslStream::shutdown) {
                Ok(outcome) => {
                    self.close_sent = true;
                    complete(outcome == ShutdownResult::Received || self.peer_closed)
                }
                Err(blocked) => self.blocked_answer(blocked, ok()),
            };
        }
        while !self.peer_closed {
            // What the peer sent before its close_notify is discarded.
            let thrown = buffers::with_plain(|plain| self.call(|tls| tls.ssl_read(plain)));
            match thrown {
                Ok(_) | Err(Blocked::Closed) => {}
                Err(blocked) => return self.blocked_answer(blocked, ok()),
            }
        }
        complete(true)
    }

    pub(super) fn tell_info(&self) -> Answered {
        if !self.established {
            return invalid("the handshake has not been finished");
        }
        frame(&LockStepAnswer { info: Some(self.info()), ..ok() })
    }

    pub(super) fn facts(&self) -> Answered {
        let facts: Box<Facts> = Box::new(tls::session_report(self.tls.ssl()));
        frame(&LockStepAnswer { facts: Some(facts), ..ok() })
    }

    /// Ends the session without a message to the peer. Each later request is answered with `failure`. The program also
    /// has the TCP socket, and its shutdown causes the program to send a request.
    pub(super) fn withdraw(&mut self, failure: Failure) {
        // Fails only if the peer has already gone.
        let _ = shutdown(self.fd(), Shutdown::Both);
        self.stage = Stage::Failed;
        self.tls.get_mut().forget();
        self.end = Some((failure, None));
    }

    /// Sends close_notify if this is possible at once.
    pub(super) fn close(&mut self) -> Vec<u8> {
        if self.stage == Stage::Open && !self.close_sent && self.unsent.is_empty() {
            self.close_sent = self.call(SslStream::shutdown).is_ok();
        }
        encode(&ok())
    }
}

fn no_reason() -> (Failure, Option<String>) {
    (Failure::new(ErrorCode::Internal, "the session has failed"), None)
}

fn to_u32(count: usize) -> Option<u32> {
    u32::try_from(count).ok()
}

fn ok<'a>() -> LockStepAnswer<'a> {
    LockStepAnswer::new(LockStepState::Ok)
}

/// Returns the answer to a request that is not possible now. The request changes nothing.
pub(super) fn invalid(message: &str) -> Answered {
    frame(&LockStepAnswer::failed(Failure::new(ErrorCode::Invalid, message)))
}

pub(super) fn frame(answer: &LockStepAnswer<'_>) -> Answered {
    Answered::Frame(encode(answer))
}

/// Returns the answer to a frame that cannot be decoded.
pub(super) fn invalid_frame(error: &DecodeError) -> Vec<u8> {
    encode(&LockStepAnswer::failed(Failure::from(error)))
}

pub(super) fn encode(answer: &LockStepAnswer<'_>) -> Vec<u8> {
    to_frame(answer).unwrap_or_else(|error| {
        tracing::error!("an answer cannot be written: {error}");
        Vec::new()
    })
}
