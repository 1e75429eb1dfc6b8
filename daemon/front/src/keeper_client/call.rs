//! One signature, or one decryption: a request on the calling thread's own socket, which is sent again on a new socket
//! while the keeper is unreachable.

use crate::keeper_client::shared::Shared;
use luassl_keeper_ipc::front::{ANSWER_MAX, Answer, Decrypt, PRE_MASTER, Refusal, Request, Sign};
use luassl_keeper_ipc::transport::{self, RecvError, RecvFlags, SendFlags};
use luassl_tls::identity::{KeyId, PreMaster, SignError};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// The first pause after an unsuccessful reconnection, and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// The granularity of the receive timeout. A timeout that is close enough to that of the last call is not set again.
const GRAIN: Duration = Duration::from_millis(100);

/// A thread's socket to the keeper, with buffers.
struct Line {
    link: u64,
    /// The socket, whose receive calls block. A call is one system call to send and one to receive, with no third in
    /// between.
    socket: OwnedFd,
    /// The time for which a receive waits.
    spin: Duration,
    call: u32,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

thread_local! {
    /// The line of the link that this thread called last. A thread of a front has only one link.
    static LINE: RefCell<Option<Line>> = const { RefCell::new(None) };
}

/// The outcome of one request.
enum Attempt {
    Answered(Zeroizing<Vec<u8>>),
    Refused(Refusal),
    /// The keeper is reachable, but has had no push yet.
    NotYet,
    /// The socket of an earlier call can no longer be used. The keeper may have been restarted long ago.
    Stale,
    /// The socket cannot be used.
    Broken,
    /// No answer arrived in time.
    Silent,
}

/// Requests a signature.
pub(super) fn sign(
    shared: &Shared,
    name: &str,
    key_id: KeyId,
    scheme: u16,
    message: &[u8],
) -> Result<Vec<u8>, SignError> {
    let request = |call| Request::Sign(Sign { call, key_id: key_id.0, name, scheme, message });
    ask(shared, &request).map(|mut signature| std::mem::take(&mut *signature))
}

/// Requests a pre-master secret.
pub(super) fn decrypt(
    shared: &Shared,
    name: &str,
    key_id: KeyId,
    version: u16,
    ciphertext: &[u8],
) -> Result<PreMaster, SignError> {
    let request = |call| Request::Decrypt(Decrypt { call, key_id: key_id.0, name, version, ciphertext });
    let answer = ask(shared, &request)?;
    let mut secret = PreMaster(Zeroizing::new([0; PRE_MASTER]));
    if answer.len() != secret.0.len() {
        return Err(SignError::Refused("no pre-master secret came".to_owned()));
    }
    secret.0.copy_from_slice(&answer);
    Ok(secret)
}

/// Sends the request until there is an answer or the time is over.
fn ask<'a>(shared: &Shared, request: &dyn Fn(u32) -> Request<'a>) -> Result<Zeroizing<Vec<u8>>, SignError> {
    let start = Instant::now();
    let mut pause = Duration::ZERO;
    while let Some(left) = shared.health.time_left(start) {
        match attempt(shared, request, left)? {
            Attempt::Answered(answer) => {
                shared.found();
                return Ok(answer);
            }
            Attempt::Refused(reason) => {
                shared.found();
                return Err(SignError::Refused(reason.to_string()));
            }
            Attempt::Silent => {
                shared.lost(start, "it does not answer");
                shared.health.doubt();
            }
            Attempt::Stale => continue,
            Attempt::NotYet => shared.lost(Instant::now(), "it has not been given its keys yet"),
            Attempt::Broken => shared.lost(Instant::now(), "its socket is closed"),
        }
        // The first attempt is made at once, because a restarted keeper does not have the old socket.
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
    }
    Err(SignError::Unavailable)
}

fn attempt<'a>(
    shared: &Shared,
    request: &dyn Fn(u32) -> Request<'a>,
    left: Duration,
) -> Result<Attempt, SignError> {
    LINE.with_borrow_mut(|line| {
        let kept = line.take().filter(|line| line.link == shared.number);
        let was_kept = kept.is_some();
        let Some(mut open) = kept.or_else(|| Line::open(shared)) else {
            return Ok(Attempt::Broken);
        };
        let attempt = match open.ask(request, left)? {
            Attempt::Broken if was_kept => Attempt::Stale,
            attempt => attempt,
        };
        // A late answer must not be taken for the answer to the next call.
        if !matches!(attempt, Attempt::Stale | Attempt::Broken | Attempt::Silent) {
            *line = Some(open);
        }
        Ok(attempt)
    })
}

impl Line {
    fn open(shared: &Shared) -> Option<Self> {
        let socket = dial(&shared.path).ok()?;
        ioctl_fionbio(&socket, false).ok()?;
        let buffer = vec![0; ANSWER_MAX];
        Some(Self { link: shared.number, socket, spin: Duration::ZERO, call: 0, out: Vec::new(), buffer })
    }

    fn ask<'a>(
        &mut self,
        request: &dyn Fn(u32) -> Request<'a>,
        left: Duration,
    ) -> Result<Attempt, SignError> {
        self.call = self.call.wrapping_add(1);
        request(self.call)
            .encode(&mut self.out)
            .map_err(|_| SignError::Refused("the message is too long to be signed".to_owned()))?;
        Ok(self.exchange(left))
    }

    fn exchange(&mut self, left: Duration) -> Attempt {
        // There is one request at a time. If the socket's buffer is not empty, the keeper has not read the last
        // request.
        if self.wait_for(left).is_err()
            || transport::send(&self.socket, &self.out, &[], SendFlags::DONTWAIT).is_err()
        {
            return Attempt::Broken;
        }
        match transport::recv(&self.socket, &mut self.buffer, 0, RecvFlags::empty()) {
            Ok(received) if !received.truncated => {
                let answer = self.read(received.len);
                self.buffer.get_mut(..received.len).unwrap_or_default().zeroize();
                answer
            }
            Err(RecvError::System(Errno::AGAIN)) => Attempt::Silent,
            Ok(_) | Err(_) => Attempt::Broken,
        }
    }

    /// Sets the receive timeout to `left`, or at most [`GRAIN`] longer.
    fn wait_for(&mut self, left: Duration) -> Result<(), Errno> {
        let grains = u32::try_from(left.as_millis() / GRAIN.as_millis()).unwrap_or(u32::MAX - 1);
        let spin = GRAIN.saturating_mul(grains + 1);
        if spin != self.spin {
            set_socket_timeout(&self.socket, Timeout::Recv, Some(spin))?;
            self.spin = spin;
        }
        Ok(())
    }

    fn read(&self, len: usize) -> Attempt {
        match Answer::decode(self.buffer.get(..len).unwrap_or_default()) {
            Ok(Answer::Signature { call, bytes }) if call == self.call => {
                Attempt::Answered(Zeroizing::new(bytes.to_vec()))
            }
            Ok(Answer::Secret { call, secret }) if call == self.call => {
                Attempt::Answered(Zeroizing::new(secret.0.to_vec()))
            }
            Ok(Answer::Refused { call, reason: Refusal::NotYet }) if call == self.call => Attempt::NotYet,
            Ok(Answer::Refused { call, reason }) if call == self.call => Attempt::Refused(reason),
            _ => Attempt::Broken,
        }
    }
}

/// Connects without waiting. A keeper that does not accept is treated like an absent one.
pub(super) fn dial(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}
