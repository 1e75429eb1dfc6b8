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

/// How long a failed handshake's alert may take to reach the peer before TCP is closed.
const ALERT_LINGER: Duration = Duration::from_secs(1);

/// A handshake that is over and good; the socket is parked, so that any thread may take it.
pub(super) struct Established {
    pub(super) tls: SslStream<Transport>,
    pub(super) info: Info,
}

/// Why a handshake did not end well.
enum Broken {
    /// The peer has passed a bound ([`tls::excess`]), whatever libssl says of the session.
    Excess(Failure),
    Tls(openssl::ssl::Error),
    Tcp(io::Error),
}

/// A handshake that failed. Whoever waits for it can be told at once, before the peer has taken the alert.
pub(super) struct Failed {
    pub(super) failure: Failure,
    parting: Option<SslStream<Transport>>,
    without_hello: bool,
}

impl Failed {
    /// Nothing has been said to the peer.
    pub(super) fn without_alert(failure: Failure) -> Self {
        Self { failure, parting: None, without_hello: false }
    }

    /// Its ClientHello has not come in time.
    pub(super) fn is_without_hello(&self) -> bool {
        self.without_hello
    }

    /// A peer that has said nothing is told nothing: the connection ends at once.
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
/// Why it failed; the socket is still open, so that the peer can be told by an alert ([`Failed::part`]).
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

/// A peer that a listener has accepted, and that has begun to speak. Until then a connection costs a descriptor, and no
/// session: whoever only connects takes next to none of the front's memory.
pub(super) struct Arrived {
    transport: Transport,
    /// How long its ClientHello may take, counted from the accept, and until when.
    hello: (Duration, Instant),
}

/// Waits for the first byte of a peer that a listener has accepted; `hello` is how long its whole ClientHello may take.
///
/// # Errors
/// When the byte has not come by then, or when the socket cannot be waited for.
pub(super) async fn arrival(tcp: Tcp, hello: Duration) -> Result<Arrived, Failed> {
    let until = Instant::now() + hello;
    let transport = registered(tcp)?;
    match timeout_at(until, poll_fn(|cx| transport.poll_readable(cx))).await {
        Ok(readable) => readable.map_err(|error| Failed::internal(&error))?,
        Err(_) => return Err(Failed::hello_not_in_time(hello)),
    }
    Ok(Arrived { transport, hello: (hello, until) })
}

/// As [`handshake`], with a peer that a listener has accepted; ends `until` then, which is `deadline` from its beginning.
///
/// # Errors
/// As [`handshake`], and when the ClientHello has not come in time.
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

/// A socket that this thread's runtime waits for.
fn registered(tcp: Tcp) -> Result<Transport, Failed> {
    // A peer that has gone already makes the handshake fail, not this option.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&tcp, true);
    let mut transport = Transport::new(tcp);
    transport.register().map_err(|error| Failed::internal(&error))?;
    Ok(transport)
}

fn begin(mut ssl: Ssl, transport: Transport) -> Result<SslStream<Transport>, Failed> {
    tls::read_ahead(&mut ssl);
    SslStream::new(ssl, transport).map_err(|error| Failed::internal(&error))
}

/// What a handshake came to; no outcome where its deadline has passed.
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

/// A handshake that met its deadline.
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

/// One turn of a server's handshake; over, without an outcome, when the ClientHello has come.
fn poll_hello(tls: &mut SslStream<Transport>, cx: &mut Context<'_>) -> Poll<Option<Result<(), Broken>>> {
    match poll_handshake(tls, Role::Server, cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if tls::hello_has_come(tls.ssl()) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    }
}

/// One turn of the handshake. It is over when its last flight is in the kernel's hands, since nobody else may move
/// a byte until the connection has been taken.
fn poll_handshake(
    tls: &mut SslStream<Transport>,
    role: Role,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Broken>> {
    with_buffers(tls, |tls| {
        // What another session of this thread left in OpenSSL's queue of errors would be taken for this one's.
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

/// Lets the alert arrive: a socket that is closed with unread data resets the connection, and the peer would see
/// no alert.
async fn say_goodbye(tls: &mut SslStream<Transport>) {
    let sent = std::future::poll_fn(|cx| with_buffers(tls, |tls| tls.get_mut().poll_send(cx)));
    if matches!(timeout(ALERT_LINGER, sent).await, Ok(Ok(()))) {
        tls.get_mut().finish_sending();
        let discarded = std::future::poll_fn(|cx| with_buffers(tls, |tls| tls.get_mut().poll_discard(cx)));
        let _ = timeout(ALERT_LINGER, discarded).await;
    }
    tls.get_mut().close();
}
