//! How the kinds of end of Lua's socket are distinguished.

use crate::tests::rig::block_on;
use crate::{
    runtime::sockets,
    stream::plaintext_socket::{Arrival, End, PlaintextSocket},
};
use std::{io::Write, net::Shutdown, os::unix::net::UnixStream};

/// Returns the registered front's end, and Lua's end, which has written five bytes.
fn pair() -> (PlaintextSocket, UnixStream) {
    let (ours, theirs) = sockets::stream_pair().unwrap();
    let mut end = PlaintextSocket::new(ours);
    end.register().unwrap();
    let theirs = UnixStream::from(theirs);
    (&theirs).write_all(b"words").unwrap();
    (end, theirs)
}

/// Receives the data, and then the end.
fn end_of(end: &mut PlaintextSocket) -> Arrival {
    let mut room = [0; 10];
    assert_eq!(end.receive_now(&mut room), Arrival::Data(5));
    end.receive_now(&mut room)
}

#[test]
fn a_half_close_is_one_although_the_front_had_finished_before_it_was_heard() {
    block_on(async {
        let (mut end, theirs) = pair();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(end.finish());
        assert_eq!(end_of(&mut end), Arrival::End(End::HalfClosed));
    });
}

#[test]
fn after_the_fronts_own_end_only_a_message_counts() {
    block_on(async {
        let (mut end, theirs) = pair();
        assert!(end.finish());
        assert!(!end.finish(), "once");
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end_of(&mut end), Arrival::End(End::Lost));
    });
}

#[test]
fn a_lost_descriptor_is_no_half_close() {
    block_on(async {
        let (mut end, theirs) = pair();
        assert_eq!(end.receive_now(&mut [0; 2]), Arrival::Data(2));
        drop(theirs);
        assert_eq!(end.receive_now(&mut [0; 3]), Arrival::Data(3));
        assert_eq!(end.receive_now(&mut [0; 3]), Arrival::End(End::Lost));
        assert!(end.is_gone());
    });
}

#[test]
fn a_descriptor_lost_with_unread_data_is_lost() {
    block_on(async {
        let (mut end, theirs) = pair();
        let sent = std::future::poll_fn(|cx| std::task::Poll::Ready(end.send(cx, b"unread"))).await;
        assert_eq!(sent, 6);
        drop(theirs);
        assert_eq!(end_of(&mut end), Arrival::End(End::Lost));
        assert!(end.is_gone());
    });
}
