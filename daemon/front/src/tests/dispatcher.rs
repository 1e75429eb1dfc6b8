//! The dealing of connections to subscribers.

use crate::tests::{
    peers,
    rig::{block_on, connection},
};
use crate::{
    accept::dispatcher::{Dispatcher, Finished},
    authorization::{
        owner::Owner,
        quota::{Bound, Kind, Quotas},
    },
    handshake::Established,
    runtime::{ConnectionRuntime, sockets},
    stream::transport::Transport,
};
use luassl_keeper_ipc::transport::{self, RecvError, RecvFlags};
use luassl_protocol::{Delivery, ErrorCode, Failure, Info, Token, from_body};
use openssl::ssl::SslVersion;
use std::{
    os::fd::OwnedFd,
    sync::{Arc, LazyLock},
};
use tokio_openssl::SslStream;

static HOME: LazyLock<ConnectionRuntime> = LazyLock::new(|| ConnectionRuntime::start(1).unwrap());

/// A process that takes connections.
struct Process {
    id: u64,
    delivery: OwnedFd,
    /// The sockets of its connections.
    streams: Vec<OwnedFd>,
}

impl Process {
    fn join(dispatcher: &mut Dispatcher) -> Self {
        let (ours, theirs) = sockets::delivery_pair().unwrap();
        let id = dispatcher.add_subscriber(Arc::new(ours)).unwrap();
        Self { id, delivery: theirs, streams: Vec::new() }
    }

    /// Returns the deliveries that have not been read yet.
    fn read(&mut self) -> Vec<Delivery> {
        let mut room = [0; 16 * 1024];
        let mut read = Vec::new();
        loop {
            match transport::recv(&self.delivery, &mut room, 1, RecvFlags::DONTWAIT) {
                Ok(received) if received.len == 0 => return read,
                Ok(received) => {
                    self.streams.extend(received.descriptors);
                    read.push(from_body(&room[..received.len]).unwrap());
                }
                Err(RecvError::System(_)) => return read,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn tokens(&mut self) -> Vec<Token> {
        self.read().into_iter().map(|delivery| delivery.token).collect()
    }
}

/// Returns a connection that is to be delivered, and its token.
fn finished(info: Info) -> (Finished, Token) {
    let (tcp, _) = peers::tcp_pair();
    let tls = SslStream::new(peers::session(SslVersion::TLS1_3), Transport::new(tcp)).unwrap();
    let connection = connection(&HOME);
    let token = connection.token;
    let owner = Owner { socket: "control".into(), uid: 1 };
    let bound = Bound { owner: 1, all: None };
    let slot = Quotas::default().take(&owner, Kind::Undelivered, 1, bound).unwrap();
    (Finished { connection, established: Established { tls, info }, _slot: slot }, token)
}

/// Adds `count` connections. Returns their tokens in order.
fn add(dispatcher: &mut Dispatcher, count: usize) -> Vec<Token> {
    let mut add_one = || {
        let (finished, token) = finished(Info::default());
        assert!(dispatcher.finished(finished).is_none());
        token
    };
    (0..count).map(|_| add_one()).collect()
}

#[test]
fn connections_go_round_the_holders_that_ask() {
    let mut dispatcher = Dispatcher::default();
    let mut processes: Vec<_> = (0..3).map(|_| Process::join(&mut dispatcher)).collect();
    for process in &processes {
        dispatcher.heard(process.id, b"aaaa");
    }
    let tokens = add(&mut dispatcher, 9);
    for (i, process) in processes.iter_mut().enumerate() {
        assert_eq!(process.tokens(), [tokens[i], tokens[i + 3], tokens[i + 6]], "each third one");
        assert_eq!(process.streams.len(), 3, "each with its socket");
    }
}

#[test]
fn what_nobody_asked_for_waits() {
    let mut dispatcher = Dispatcher::default();
    let (mut one, mut other) = (Process::join(&mut dispatcher), Process::join(&mut dispatcher));
    let tokens = add(&mut dispatcher, 3);
    assert!(one.tokens().is_empty());
    dispatcher.heard(one.id, b"a");
    dispatcher.heard(other.id, b"aaaa");
    assert_eq!(one.tokens(), [tokens[0]]);
    assert_eq!(other.tokens(), [tokens[1], tokens[2]]);
}

#[test]
fn what_a_lost_holder_had_not_taken_goes_to_another() {
    let mut dispatcher = Dispatcher::default();
    let (mut lost, mut other) = (Process::join(&mut dispatcher), Process::join(&mut dispatcher));
    dispatcher.heard(lost.id, b"aaa");
    let tokens = add(&mut dispatcher, 3);
    assert_eq!(lost.tokens(), tokens);
    let taken = dispatcher.heard(lost.id, b"t");
    assert_eq!(taken.iter().map(|(finished, _)| finished.connection.token).collect::<Vec<_>>(), [tokens[0]]);
    dispatcher.heard(other.id, b"aaa");
    let id = lost.id;
    drop(lost);
    assert!(dispatcher.remove_subscriber(id).is_none());
    assert_eq!(other.tokens(), [tokens[1], tokens[2]], "in their order, and not the one that was taken");
    assert_eq!(dispatcher.heard(other.id, b"ttt").len(), 2);
}

#[test]
fn a_holder_that_has_gone_is_passed_over_before_its_end_is_heard() {
    let mut dispatcher = Dispatcher::default();
    let (gone, mut other) = (Process::join(&mut dispatcher), Process::join(&mut dispatcher));
    dispatcher.heard(gone.id, b"aaaa");
    dispatcher.heard(other.id, b"aaaa");
    drop(gone);
    let tokens = add(&mut dispatcher, 2);
    assert_eq!(other.tokens(), tokens);
}

#[test]
fn a_holder_that_does_not_read_loses_nothing_and_holds_nobody_up() {
    let mut dispatcher = Dispatcher::default();
    let (ours, theirs) = sockets::delivery_pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
    let id = dispatcher.add_subscriber(Arc::new(ours)).unwrap();
    let mut lazy = Process { id, delivery: theirs, streams: Vec::new() };
    let mut other = Process::join(&mut dispatcher);
    dispatcher.heard(lazy.id, &[b'a'; 40]);
    let mut tokens = add(&mut dispatcher, 40);
    dispatcher.heard(other.id, &[b'a'; 10]);
    let mut dealt = other.tokens();
    assert_eq!(dealt.len(), 10, "the other one gets what it asks for");
    loop {
        let read = lazy.tokens();
        if read.is_empty() {
            break;
        }
        assert!(read.len() < 30, "its socket has never had room for all");
        dispatcher.heard(lazy.id, &vec![b't'; read.len()]);
        dealt.extend(read);
    }
    dealt.sort();
    tokens.sort();
    assert_eq!(dealt, tokens);
}

#[test]
fn the_last_holder_takes_the_listener_along() {
    let mut dispatcher = Dispatcher::default();
    let subscriber = Process::join(&mut dispatcher);
    dispatcher.heard(subscriber.id, b"a");
    let tokens = add(&mut dispatcher, 3);
    let left = dispatcher.remove_subscriber(subscriber.id).unwrap();
    assert_eq!(left.iter().map(|finished| finished.connection.token).collect::<Vec<_>>(), tokens);
    assert!(dispatcher.is_closed());
    assert!(dispatcher.finished(finished(Info::default()).0).is_some(), "what comes later is given back");
    assert!(dispatcher.add_subscriber(Arc::new(sockets::delivery_pair().unwrap().0)).is_none());
    assert!(dispatcher.heard(subscriber.id, b"at").is_empty());
}

#[test]
fn failed_handshakes_are_told_to_those_that_ask_for_them() {
    let mut dispatcher = Dispatcher::default();
    let (mut deaf, mut curious) = (Process::join(&mut dispatcher), Process::join(&mut dispatcher));
    dispatcher.heard(deaf.id, b"a");
    for reason in ["the first", "the second", "the third"] {
        dispatcher.failed(Failure::new(ErrorCode::Tls, reason));
    }
    dispatcher.heard(curious.id, b"rr");
    let told = curious.read().into_iter().map(|delivery| delivery.result.error.unwrap().message);
    assert_eq!(told.collect::<Vec<_>>(), ["the first", "the second"]);
    assert!(curious.streams.is_empty());
    let tokens = add(&mut dispatcher, 1);
    assert_eq!(deaf.tokens(), tokens, "a report uses up no other's ask");
}

#[test]
fn of_many_failed_handshakes_the_last_ones_are_told() {
    let mut dispatcher = Dispatcher::default();
    let mut curious = Process::join(&mut dispatcher);
    for number in 0..100 {
        dispatcher.failed(Failure::new(ErrorCode::Tls, number.to_string()));
    }
    dispatcher.heard(curious.id, b"r");
    assert_eq!(curious.read()[0].result.error.as_ref().unwrap().message, "36");
}

#[test]
fn an_ask_for_either_is_answered_once() {
    let mut dispatcher = Dispatcher::default();
    let mut curious = Process::join(&mut dispatcher);
    dispatcher.heard(curious.id, b"r");
    let tokens = add(&mut dispatcher, 2);
    dispatcher.failed(Failure::new(ErrorCode::Tls, "too late"));
    assert_eq!(curious.tokens(), [tokens[0]]);
}

#[test]
fn asks_are_bounded() {
    let mut dispatcher = Dispatcher::default();
    let mut greedy = Process::join(&mut dispatcher);
    dispatcher.heard(greedy.id, &[b'a'; 1000]);
    add(&mut dispatcher, 70);
    assert_eq!(greedy.tokens().len(), 64);
}

#[test]
fn words_that_mean_nothing_do_nothing() {
    let mut dispatcher = Dispatcher::default();
    let mut odd = Process::join(&mut dispatcher);
    assert!(dispatcher.heard(odd.id, b"ttt\0\xffx").is_empty());
    let tokens = add(&mut dispatcher, 1);
    assert!(odd.tokens().is_empty());
    dispatcher.heard(odd.id, b"a");
    assert_eq!(odd.tokens(), tokens);
}

#[test]
fn a_failed_listener_ends_its_holders_sockets() {
    let mut dispatcher = Dispatcher::default();
    let subscriber = Process::join(&mut dispatcher);
    add(&mut dispatcher, 2);
    assert_eq!(dispatcher.fail().len(), 2);
    let received = transport::recv(&subscriber.delivery, &mut [0; 10], 1, RecvFlags::DONTWAIT).unwrap();
    assert_eq!(received.len, 0);
    assert_eq!(dispatcher.remove_subscriber(subscriber.id).map(|left| left.len()), Some(0));
}

#[test]
fn a_message_that_would_be_too_long_still_comes() {
    let mut dispatcher = Dispatcher::default();
    let mut process = Process::join(&mut dispatcher);
    dispatcher.heard(process.id, b"a");
    let info = Info { sni: Some("x".repeat(100_000)), ..Info::default() };
    let (finished, token) = finished(info);
    assert!(dispatcher.finished(finished).is_none());
    assert_eq!(process.tokens(), [token]);
}

#[test]
fn a_half_closed_stream_has_not_hung_up() {
    use crate::accept::subscriber::hung_up;
    use std::{net::Shutdown, os::unix::net::UnixStream, time::Duration};
    let (ours, theirs) = sockets::stream_pair().unwrap();
    let theirs = UnixStream::from(theirs);
    block_on(async {
        std::io::Write::write_all(&mut &theirs, b"early").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), hung_up(&ours)).await.is_err());
        drop(theirs);
        hung_up(&ours).await;
    });
}

#[test]
fn what_no_grant_allows_any_more_is_delivered_to_nobody() {
    let mut dispatcher = Dispatcher::default();
    let mut process = Process::join(&mut dispatcher);
    let tokens = add(&mut dispatcher, 2);
    let failure = || Failure::new(ErrorCode::Refused, "no grant");
    let (late, _) = finished(Info::default());
    late.connection.withdraw(failure());
    assert!(dispatcher.finished(late).is_some(), "it was ended while its handshake was");
    for connection in HOME.connections.all().iter().filter(|one| one.token == tokens[0]) {
        connection.withdraw(failure());
    }
    assert_eq!(dispatcher.drop_withdrawn().len(), 1);
    dispatcher.heard(process.id, b"aa");
    assert_eq!(process.tokens(), [tokens[1]], "the other one waits as before");
}
