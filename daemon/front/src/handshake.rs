//! Handshakes, on threads that may wait for the keeper.

use crate::{
    runtime::{connection::with_addresses, tcp::Tcp},
    stream::{buffers, transport::Transport},
};
use luassl_protocol::{ErrorCode, Failure, Info, Role};
use luassl_tls as tls;
use openssl::{error::ErrorStack, ssl::Ssl};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_openssl::SslStream;

/// The time in which the alert of a failed handshake may reach the peer before TCP is closed.
const ALERT_LINGER: Duration = Duration::from_secs(1);

/// A handshake that has succeeded. The socket is parked, so any thread may take it.
pub(super) struct Established {
    pub(super) tls: SslStream<Transport>,
    pub(super) info: Info,
}

/// Why a handshake did not succeed.
enum Broken {
    /// The peer has exceeded a limit ([`tls::excess`]), whatever libssl reports for the session.
    Excess(Failure),
    Tls(openssl::ssl::Error),
    Tcp(io::Error),
}

/// A handshake that failed. A caller that waits for it can be notified at once, before the peer has received the alert.
pub(super) struct Failed {
    pub(super) failure: Failure,
    parting: Option<SslStream<Transport>>,
    without_hello: bool,
}

impl Failed {
    /// Creates a failure of which the peer is not notified.
    pub(super) fn without_alert(failure: Failure) -> Self {
        Self { failure, parting: None, without_hello: false }
    }

    /// Returns whether its ClientHello did not arrive in time.
    pub(super) fn is_without_hello(&self) -> bool {
        self.without_hello
    }

    /// Creates the failure for a late ClientHello. A peer that has sent nothing is sent nothing: the connection ends at
    /// once.
    fn hello_not_in_time(deadline: Duration) -> Self {
        let seconds = deadline.as_secs_f64();
        let message = format!("no ClientHello within {seconds} s ([limits] client_hello)");
        Self { without_hello: true, ..Self::without_alert(Failure::new(ErrorCode::Timeout, message)) }
    }

    fn internal(error: &impl std::fmt::Display) -> Self {
        Self::without_alert(Failure::new(ErrorCode::Internal, format!("no handshake: {error}")))
    }

    /// Sends the alert and ends the connection, within twice [`ALERT_LINGER`].
    pub(super) async fn part(self) {
        if let Some(mut tls) = self.parting {
            say_goodbye(&mut tls).await;
        }
    }
}

/// Runs one handshake to its end, within `deadline`.
///
/// # Errors
/// Returns why the handshake failed. The socket is still open, so that an alert can be sent to the peer
/// ([`Failed::part`]).
pub(super) async fn handshake(
    ssl: Ssl,
    tcp: Tcp,
    role: Role,
    deadline: Duration,
) -> Result<Established, Failed> {
    let until = Instant::now() + deadline;
    let mut tls = begin(ssl, registered(tcp)?)?;
    let outcome = timeout_at(until, poll_fn(|cx| poll_handshake(&mut tls, role, cx))).await;
    conclude(tls, outcome.ok(), deadline)
}

/// A peer that a listener has accepted, and that has begun to send. Before that a connection costs a descriptor, and no
/// session. A peer that only connects uses very little of the front's memory.
pub(super) struct Arrived {
    transport: Transport,
    /// The time for its ClientHello, counted from the accept, and the deadline that results.
    hello: (Duration, Instant),
}

/// Waits for the first byte of a peer that a listener has accepted. `hello` is the time for its whole ClientHello.
///
/// # Errors
/// Returns an error if the byte does not arrive in time, or if it is not possible to wait for the socket.
pub(super) async fn arrival(tcp: Tcp, hello: Duration) -> Result<Arrived, Failed> {
    let until = Instant::now() + hello;
    let transport = registered(tcp)?;
    match timeout_at(until, poll_fn(|cx| transport.poll_readable(cx))).await {
        Ok(readable) => readable.map_err(|error| Failed::internal(&error))?,
        Err(_) => return Err(Failed::hello_not_in_time(hello)),
    }
    Ok(Arrived { transport, hello: (hello, until) })
}

/// Runs a handshake as [`handshake`] does, with a peer that a listener has accepted. It ends at `until`, which is
/// `deadline` after its beginning.
///
/// # Errors
/// The same as [`handshake`], and if the ClientHello does not arrive in time.
pub(super) async fn accepted(
    ssl: Ssl,
    arrived: Arrived,
    until: Instant,
    deadline: Duration,
) -> Result<Established, Failed> {
    let (hello, hello_until) = arrived.hello;
    let mut tls = begin(ssl, arrived.transport)?;
    let first = timeout_at(hello_until, poll_fn(|cx| poll_hello(&mut tls, cx))).await;
    let outcome = match first {
        Ok(Some(outcome)) => Some(outcome),
        Ok(None) => timeout_at(until, poll_fn(|cx| poll_handshake(&mut tls, Role::Server, cx))).await.ok(),
        Err(_) => return Err(Failed::hello_not_in_time(hello)),
    };
    conclude(tls, outcome, deadline)
}

/// Returns a socket that is registered with this thread's runtime.
fn registered(tcp: Tcp) -> Result<Transport, Failed> {
    // If the peer has already gone, the handshake fails, not this option.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&tcp, true);
    let mut transport = Transport::new(tcp);
    transport.register().map_err(|error| Failed::internal(&error))?;
    Ok(transport)
}

fn begin(mut ssl: Ssl, transport: Transport) -> Result<SslStream<Transport>, Failed> {
    tls::read_ahead(&mut ssl);
    SslStream::new(ssl, transport).map_err(|error| Failed::internal(&error))
}

/// Returns the result of a handshake. There is no outcome if its deadline has passed.
fn conclude(
    mut tls: SslStream<Transport>,
    outcome: Option<Result<(), Broken>>,
    deadline: Duration,
) -> Result<Established, Failed> {
    let failure = match outcome {
        Some(Ok(())) => {
            tls.get_mut().detach();
            let info = with_addresses(tls::summary(tls.ssl()), tls.get_ref().fd());
            return Ok(Established { tls, info });
        }
        Some(Err(broken)) => why(&broken, &tls),
        None => not_in_time(deadline),
    };
    Err(Failed { failure, parting: Some(tls), without_hello: false })
}

/// Returns the failure of a handshake that exceeded its deadline.
pub(super) fn not_in_time(deadline: Duration) -> Failure {
    let seconds = deadline.as_secs_f64();
    Failure::new(ErrorCode::Timeout, format!("no handshake within {seconds} s ([limits] handshake)"))
}

fn why(broken: &Broken, tls: &SslStream<Transport>) -> Failure {
    let cut = |error: &io::Error| {
        Failure::new(ErrorCode::Cut, format!("the connection was cut during the handshake: {error}"))
    };
    match broken {
        Broken::Excess(failure) => failure.clone(),
        _ if tls.get_ref().end_of_file => {
            Failure::new(ErrorCode::Cut, "the peer closed the connection during the handshake")
        }
        Broken::Tcp(error) => cut(error),
        Broken::Tls(error) => match error.io_error() {
            Some(error) => cut(error),
            None => tls::failure(error, tls.ssl()),
        },
    }
}

/// Performs one step of a server's handshake. It is ready, without an outcome, when the ClientHello has arrived.
fn poll_hello(tls: &mut SslStream<Transport>, cx: &mut Context<'_>) -> Poll<Option<Result<(), Broken>>> {
    match poll_handshake(tls, Role::Server, cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if tls::hello_has_come(tls.ssl()) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    }
}

/// Performs one step of the handshake. The handshake is complete when the kernel has accepted its last flight, because
/// no other task may move a byte until the connection has been taken.
fn poll_handshake(
    tls: &mut SslStream<Transport>,
    role: Role,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Broken>> {
    with_buffers(tls, |tls| {
        // An error that another session of this thread left in OpenSSL's error queue would be attributed to this
        // session.
        drop(ErrorStack::get());
        let shaken = match role {
            Role::Server => Pin::new(&mut *tls).poll_accept(cx),
            Role::Client => Pin::new(&mut *tls).poll_connect(cx),
        };
        let sent = tls.get_mut().poll_send(cx);
        // A session that reads no further would otherwise wait for its deadline, or be established.
        if let Some(excess) = tls::excess(tls.ssl()) {
            return Poll::Ready(Err(Broken::Excess(excess)));
        }
        match (shaken, sent) {
            (Poll::Ready(Err(error)), _) => Poll::Ready(Err(Broken::Tls(error))),
            (_, Poll::Ready(Err(error))) => Poll::Ready(Err(Broken::Tcp(error))),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
}

fn with_buffers<T>(tls: &mut SslStream<Transport>, work: impl FnOnce(&mut SslStream<Transport>) -> T) -> T {
    tls.get_mut().activate(buffers::lend());
    let outcome = work(tls);
    if let Some(buffers) = tls.get_mut().deactivate() {
        buffers::give_back(buffers);
    }
    outcome
}

/// Waits until the alert has arrived. If a socket is closed with unread data, the connection is reset, and the peer
/// does not receive the alert.
async fn say_goodbye(tls: &mut SslStream<Transport>) {
    let sent = std::future::poll_fn(|cx| with_buffers(tls, |tls| tls.get_mut().poll_send(cx)));
    if matches!(timeout(ALERT_LINGER, sent).await, Ok(Ok(()))) {
        tls.get_mut().finish_sending();
        let discarded = std::future::poll_fn(|cx| with_buffers(tls, |tls| tls.get_mut().poll_discard(cx)));
        let _ = timeout(ALERT_LINGER, discarded).await;
    }
    tls.get_mut().close();
}
