//! Frames and descriptors over real sockets, in the ways in which a client may send them.

use super::*;
use crate::control::{
    channel::{Channel, MAX_WAITING_DESCRIPTORS},
    reply::Answer,
};
use crate::{
    activation::activate,
    authorization::quota::{MAX_UNCLOSED, Quotas},
    context::tests::grant,
    control::turns::Turns,
    tests::{peers::BOUND, rig::block_on, whole::front},
};
use luassl_keeper_ipc::transport;
use luassl_protocol::{Blob, Connect, ConnectionRef, Hello, Mode, Request, Role, Token};
use luassl_settings::{Grant, Grantee, Limits, Settings};
use rustix::net::SendFlags;
use std::{
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    thread,
};
use tokio::time::timeout;

/// Returns a channel and its client.
fn channel() -> (Channel, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let owner = Owner { socket: "control".into(), uid: 1 };
    let turn = Turns::default().of(&owner);
    (Channel::new(ClientSocket::new(ours.into()), owner, Quotas::default(), turn).unwrap(), theirs)
}

fn plain() -> Vec<u8> {
    Request::Status(ConnectionRef { token: Token::new([0; 16]) }).to_frame(1).unwrap()
}

fn connect() -> Vec<u8> {
    Request::Connect(Connect::new(1, Role::Client, Mode::Stream)).to_frame(2).unwrap()
}

fn large() -> Vec<u8> {
    Request::Blob(Blob { data: vec![b'-'; 300_000] }).to_frame(3).unwrap()
}

/// Returns a descriptor for the tests: a file, distinguished from others by its inode.
fn descriptor() -> (OwnedFd, u64) {
    let file = tempfile::tempfile().unwrap();
    let inode = rustix::fs::fstat(&file).unwrap().st_ino;
    (file.into(), inode)
}

/// Sends bytes, with a descriptor attached to the first byte.
fn send(client: &UnixStream, bytes: &[u8], descriptor: Option<&OwnedFd>) {
    let descriptors: Vec<_> = descriptor.iter().map(|fd| fd.as_fd()).collect();
    let sent = transport::send(client, bytes, &descriptors, SendFlags::empty()).unwrap();
    (&*client).write_all(&bytes[sent..]).unwrap();
}

/// Returns the next request, and the inodes of the descriptors that it receives.
async fn next(channel: &mut Channel) -> (Request, Vec<u64>) {
    let (first, frame) = channel.next_frame(&Limits::default(), true).await.unwrap().unwrap();
    let (_, request) = Request::decode(&frame).unwrap();
    let claimed = channel.claim(first, &request);
    let unclaimed = channel.descriptors.unclaimed(channel.consumed);
    channel.dispose(unclaimed);
    (request, claimed.iter().map(|fd| rustix::fs::fstat(fd).unwrap().st_ino).collect())
}

#[test]
fn a_descriptor_comes_with_its_frame_however_frames_are_sent() {
    block_on(async {
        let (mut channel, client) = channel();
        let ((one, first), (two, second)) = (descriptor(), descriptor());
        send(&client, &plain(), None);
        send(&client, &connect(), Some(&one));
        send(&client, &[plain(), plain()].concat(), None);
        send(&client, &[connect(), plain()].concat(), Some(&two));
        assert_eq!(next(&mut channel).await.1, []);
        assert_eq!(next(&mut channel).await.1, [first]);
        assert_eq!(next(&mut channel).await.1, []);
        assert_eq!(next(&mut channel).await.1, []);
        assert_eq!(next(&mut channel).await.1, [second]);
        assert_eq!(next(&mut channel).await.1, []);
    });
}

#[test]
fn a_descriptor_behind_a_frame_of_many_receives_is_the_next_ones() {
    block_on(async {
        let (mut channel, client) = channel();
        let (one, inode) = descriptor();
        let sender = thread::spawn(move || {
            send(&client, &large(), None);
            send(&client, &connect(), Some(&one));
            client
        });
        assert!(matches!(next(&mut channel).await, (Request::Blob(_), claimed) if claimed.is_empty()));
        assert_eq!(next(&mut channel).await.1, [inode]);
        sender.join().unwrap();
    });
}

#[test]
fn a_descriptor_that_its_frame_does_not_take_is_closed_and_never_anothers() {
    block_on(async {
        let (mut channel, client) = channel();
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        send(&client, &plain(), Some(&writing));
        drop(writing);
        assert_eq!(next(&mut channel).await.1, []);
        send(&client, &connect(), None);
        assert_eq!(next(&mut channel).await.1, []);
        assert_eq!(rustix::io::read(&reading, &mut [0; 1]).unwrap(), 0, "no copy is left");
    });
}

#[test]
fn two_descriptors_of_one_request_are_both_its_own() {
    block_on(async {
        let (mut channel, client) = channel();
        let ((one, first), (other, second)) = (descriptor(), descriptor());
        transport::send(&client, &connect(), &[one.as_fd(), other.as_fd()], SendFlags::empty()).unwrap();
        send(&client, &connect(), Some(&one));
        assert_eq!(next(&mut channel).await.1, [first, second], "for its answer to say so");
        assert_eq!(next(&mut channel).await.1, [first], "and the next has its own");
    });
}

#[test]
fn more_descriptors_than_may_wait_end_the_connection_with_an_answer() {
    block_on(async {
        let (mut channel, client) = channel();
        let (one, _) = descriptor();
        let many = vec![one.as_fd(); MAX_WAITING_DESCRIPTORS + 1];
        transport::send(&client, &connect(), &many, SendFlags::empty()).unwrap();
        assert!(channel.next_frame(&Limits::default(), true).await.unwrap().is_none());
        let mut answer = [0; 512];
        let length = std::io::Read::read(&mut &client, &mut answer).unwrap();
        assert!(answer[..length].windows(10).any(|text| text == b"descriptor"), "{:?}", &answer[..length]);
    });
}

#[test]
fn a_frame_keeps_its_deadline_when_other_answers_come_between() {
    block_on(async {
        let (mut channel, client) = channel();
        let limits = Limits { request_ms: 300, ..Limits::default() };
        (&client).write_all(&plain()[..5]).unwrap();
        let outcome = loop {
            // As if an answer that was waited for is sent in the meantime.
            let interrupted = timeout(Duration::from_millis(50), channel.next_frame(&limits, true)).await;
            if let Ok(outcome) = interrupted {
                break outcome;
            }
        };
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_frame_that_trickles_has_one_deadline_for_all_its_bytes() {
    block_on(async {
        let (mut channel, client) = channel();
        let limits = Limits { request_ms: 300, ..Limits::default() };
        let trickle = thread::spawn(move || {
            let bytes = large();
            // Ends when the channel is dropped. Each byte alone would arrive early enough.
            bytes.iter().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(20));
                (&client).write_all(&[*byte])
            })
        });
        let error = channel.next_frame(&limits, true).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(channel);
        assert!(trickle.join().unwrap().is_err());
    });
}

#[test]
fn a_client_that_says_nothing_has_a_deadline_until_hello_alone() {
    block_on(async {
        let limits = Limits { request_ms: 100, ..Limits::default() };
        let (mut before, _client) = channel();
        let error = before.next_frame(&limits, false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (mut channel, client) = channel();
        let waiting = tokio::time::timeout(Duration::from_millis(400), channel.next_frame(&limits, true));
        assert!(waiting.await.is_err(), "it may be silent afterwards");
        drop(client);
        assert!(channel.next_frame(&limits, true).await.unwrap().is_none());
    });
}

#[test]
fn a_frame_of_four_gibibytes_is_refused_at_once() {
    block_on(async {
        let (mut channel, client) = channel();
        (&client).write_all(&[0xff; 4]).unwrap();
        assert!(channel.next_frame(&Limits::default(), true).await.unwrap().is_none());
        let mut answer = [0; 512];
        let length = std::io::Read::read(&mut &client, &mut answer).unwrap();
        assert!(answer[..length].windows(9).any(|text| text == b"too_large"), "{:?}", &answer[..length]);
    });
}

#[test]
fn an_answer_goes_to_a_client_that_reads_slowly_and_not_to_one_that_never_does() {
    block_on(async {
        let (mut channel, client) = channel();
        let frame = large();
        let expected = frame.clone();
        let reader = thread::spawn(move || {
            let (mut room, mut all) = ([0; 5000], Vec::new());
            while all.len() < expected.len() {
                let count = std::io::Read::read(&mut &client, &mut room).unwrap();
                all.extend_from_slice(&room[..count]);
                thread::sleep(Duration::from_millis(1));
            }
            assert!(all == expected);
            client
        });
        let deadline = Duration::from_secs(20);
        channel.send(Answer { frame: frame.clone(), descriptors: Vec::new() }, deadline).await.unwrap();
        let _client = reader.join().unwrap();
        // More than any buffer of the socket holds.
        let mut sent = Ok(());
        for _ in 0..100 {
            let answer = Answer { frame: frame.clone(), descriptors: Vec::new() };
            sent = channel.send(answer, Duration::from_millis(100)).await;
            if sent.is_err() {
                break;
            }
        }
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    });
}

/// Sends `hello`, and returns whether there was an answer.
fn is_welcome(path: &Path) -> bool {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(BOUND)).unwrap();
    let hello = Hello { version: luassl_protocol::VERSION, features: Vec::new(), client: String::new() };
    // Fails if the connection is already reset.
    let _ = client.write_all(&Request::Hello(hello).to_frame(1).unwrap());
    match client.read(&mut [0; 512]) {
        Ok(count) => count > 0,
        Err(error) => {
            assert!(
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
                "{error}"
            );
            false
        }
    }
}

#[test]
fn one_owners_unclosed_sockets_reset_its_own_connections_and_no_others() {
    let front = front();
    let uid = rustix::process::getuid().as_raw();
    let grants = vec![Grant { grantee: Grantee::User(uid), ..grant() }];
    activate(&front, Settings { grants, ..Settings::default() }, Vec::new());
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let listening = ["one", "two"].map(|name| (name, UnixListener::bind(path(name)).unwrap()));
    let served = front.clone();
    // The thread lasts as long as the process.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let [one, two] =
            listening.map(|(name, listening)| serve(served.clone(), name.into(), listening.into()));
        runtime.block_on(async { tokio::join!(one, two) })
    });
    // An owner is a user at a control socket.
    let account = front.authority.quotas.account(&Owner { socket: "one".into(), uid });
    assert!(is_welcome(&path("one")) && is_welcome(&path("two")));
    let unclosed: Vec<_> = (0..10).map(|_| account.waiting(MAX_UNCLOSED.owner as usize)).collect();
    for _ in 0..3 {
        assert!(!is_welcome(&path("one")));
        assert!(is_welcome(&path("two")));
    }
    // Positive control: the owner is accepted again after they are closed.
    drop(unclosed);
    assert!(is_welcome(&path("one")));
}

#[test]
fn a_control_connection_is_small_as_long_as_it_waits() {
    /// The limit on the size, in bytes. The future of the largest request is a multiple of it.
    const SMALL: usize = 3 * 1024;
    let front = front();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let socket = ClientSocket::new(ours.into());
    let principal = principal(&"control".into(), &socket).unwrap();
    let conversation = converse(&front, principal.clone(), socket);
    assert!(size_of_val(&conversation) <= SMALL, "{} bytes", size_of_val(&conversation));
}
