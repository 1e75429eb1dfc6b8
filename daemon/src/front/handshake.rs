//! Handshakes, on threads that may wait for the keeper.

use super::{buffers, connection::with_addresses, transport::Transport};
use crate::tls;
use luassl_protocol::{ErrorCode, Failure, Info, Role};
use openssl::ssl::Ssl;
use std::{
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::AsyncWrite, time::timeout};
use tokio_openssl::SslStream;

/// How long a failed handshake's alert may take to reach the peer before TCP is closed.
const ALERT_LINGER: Duration = Duration::from_secs(1);

/// A handshake that is over and good; the socket is parked, so that any thread may take it.
pub(super) struct Established {
    pub(super) tls: SslStream<Transport>,
    pub(super) info: Info,
}

/// Runs one handshake to its end, within `deadline`.
///
/// # Errors
/// Why it failed; the peer has been told by an alert, and the socket is closed.
pub(super) async fn handshake(
    ssl: Ssl,
    tcp: OwnedFd,
    role: Role,
    deadline: Duration,
) -> Result<Established, Failure> {
    // A peer that has gone already makes the handshake fail, not this option.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&tcp, true);
    let mut transport = Transport::new(tcp);
    transport.register().map_err(|error| internal(&error))?;
    let mut tls = SslStream::new(ssl, transport).map_err(|error| internal(&error))?;
    let outcome = timeout(deadline, std::future::poll_fn(|cx| poll_handshake(&mut tls, role, cx))).await;
    let failure = match outcome {
        Ok(Ok(())) => {
            tls.get_mut().park();
            let info = with_addresses(tls::info(tls.ssl()), tls.get_ref().fd());
            return Ok(Established { tls, info });
        }
        Ok(Err(error)) if tls.get_ref().end_of_file => {
            let _ = error;
            Failure::new(ErrorCode::Cut, "the peer closed the connection during the handshake")
        }
        Ok(Err(error)) => tls::failure(&error, tls.ssl()),
        Err(_) => Failure::new(
            ErrorCode::Timeout,
            format!("no handshake within {} s ([limits] handshake)", deadline.as_secs()),
        ),
    };
    say_goodbye(&mut tls).await;
    Err(failure)
}

fn internal(error: &impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Internal, format!("no handshake: {error}"))
}

fn poll_handshake(
    tls: &mut SslStream<Transport>,
    role: Role,
    cx: &mut Context<'_>,
) -> Poll<Result<(), openssl::ssl::Error>> {
    with_buffers(tls, |tls| match role {
        Role::Server => Pin::new(tls).poll_accept(cx),
        Role::Client => Pin::new(tls).poll_connect(cx),
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
    let flushed = std::future::poll_fn(|cx| with_buffers(tls, |tls| Pin::new(tls.get_mut()).poll_flush(cx)));
    if matches!(timeout(ALERT_LINGER, flushed).await, Ok(Ok(()))) {
        tls.get_mut().finish_sending();
        let discarded = std::future::poll_fn(|cx| with_buffers(tls, |tls| tls.get_mut().poll_discard(cx)));
        let _ = timeout(ALERT_LINGER, discarded).await;
    }
    tls.get_mut().close();
}

/// Closes a session that nobody will have, without close_notify.
pub(super) fn abandon(mut established: Established) {
    established.tls.get_mut().close();
}
