//! A front's admin socket: carries its settings with the listeners' sockets to the front, and its status
//! back.

use crate::push::channel::{PushError, receive_within, send_within};
use luassl_settings::{
    MAX_MESSAGE, MAX_ROWS, OwnerStatus, PushReply, Settings, StatusReply, StatusRequest, encode_push,
};
use std::os::fd::{AsFd, BorrowedFd};

/// Sends `settings` and the sockets of `listeners`, and waits for the front's answer.
///
/// # Errors
/// Returns [`PushError`] if the settings are too large, or if the front does not accept them.
pub fn send_settings(
    admin: BorrowedFd<'_>,
    settings: &Settings,
    listeners: &[(String, BorrowedFd<'_>)],
) -> Result<PushReply, PushError> {
    let names = listeners.iter().map(|(name, _)| name.clone()).collect();
    let (header, memory) = encode_push(settings, names)?;
    let mut descriptors = vec![memory.as_fd()];
    descriptors.extend(listeners.iter().map(|(_, socket)| *socket));
    send_within(admin, &header, &descriptors)?;
    late_reply(admin)
}

/// Waits for a front's answer to settings that were sent before and were not answered in time.
///
/// # Errors
/// As [`send_settings`]. Returns [`PushError::Unanswered`] if there is still no answer.
pub fn late_reply(admin: BorrowedFd<'_>) -> Result<PushReply, PushError> {
    let mut answer = vec![0; MAX_MESSAGE];
    let length = receive_within(admin, &mut answer)?;
    Ok(PushReply::decode(&answer[..length])?)
}

/// Requests all status rows of a front.
///
/// # Errors
/// Returns [`PushError`] if it does not answer, or if its answer is invalid.
pub fn front_status(admin: BorrowedFd<'_>) -> Result<Vec<OwnerStatus>, PushError> {
    let mut rows: Vec<OwnerStatus> = Vec::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let request = StatusRequest::after(rows.last());
        send_within(admin, &request.encode()?, &[])?;
        let length = receive_within(admin, &mut buffer)?;
        let StatusReply { rows: next, more, .. } = StatusReply::decode(&buffer[..length])?;
        let advances = next.first().is_none_or(|row| request.comes_before(row));
        if !advances || (more && next.is_empty()) {
            return Err(PushError::Malformed("the rows of the status are out of order".to_owned()));
        }
        rows.extend(next);
        // Rows that are added or removed during the query may result in one row too many.
        rows.truncate(MAX_ROWS);
        if !more || rows.len() == MAX_ROWS {
            return Ok(rows);
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use luassl_keeper_ipc::transport::{RecvFlags, SendFlags, recv, send};
    use luassl_settings::{MAX_DESCRIPTORS, receive_settings};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::collections::BTreeMap;
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair")
    }

    #[test]
    fn settings_and_sockets_arrive_and_are_answered() {
        let (supervisor, front) = pair();
        let settings =
            Settings { front: "default".into(), listeners: vec!["a".into()], ..Settings::default() };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let sent = settings.clone();
        let reply = std::thread::scope(|scope| {
            let sender = scope
                .spawn(|| send_settings(supervisor.as_fd(), &sent, &[("a".to_owned(), listener.as_fd())]));
            let mut buffer = vec![0; MAX_MESSAGE];
            let received = recv(&front, &mut buffer, MAX_DESCRIPTORS, RecvFlags::empty()).expect("a push");
            let push = receive_settings(&buffer[..received.len], received.descriptors).expect("well-formed");
            assert_eq!(push.settings, settings);
            let (name, socket) = push.listeners.into_iter().next().expect("one listener");
            assert_eq!((name.as_str(), TcpListener::from(socket).local_addr().ok()), ("a", Some(address)));
            let reply = PushReply::faulty("trust x: no certificate".into());
            send(&front, &reply.encode(), &[], SendFlags::empty()).expect("sent");
            sender.join().expect("no panic")
        });
        assert_eq!(reply.expect("answered").faults, ["trust x: no certificate"]);
    }

    #[test]
    fn a_front_that_goes_away_is_told_from_one_that_is_slow() {
        let (supervisor, front) = pair();
        drop(front);
        let answer = send_settings(supervisor.as_fd(), &Settings::default(), &[]);
        assert!(matches!(answer, Err(PushError::Closed)), "{answer:?}");
    }

    fn row(uid: u32) -> OwnerStatus {
        let counts: BTreeMap<String, u64> =
            [("cut".to_owned(), u64::from(uid)), ("timeout".to_owned(), 1)].into();
        let (failed, refused) = (counts.clone(), counts);
        OwnerStatus { socket: "control".into(), uid: Some(uid), failed, refused, ..OwnerStatus::default() }
    }

    /// Returns the result of a status query to a front with these rows.
    fn asked(rows: Vec<OwnerStatus>) -> Result<Vec<OwnerStatus>, PushError> {
        let (ours, fronts) = pair();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut buffer = vec![0; MAX_MESSAGE];
                loop {
                    let received = recv(&fronts, &mut buffer, 0, RecvFlags::empty()).expect("it works");
                    let Some(request) = StatusRequest::decode(&buffer[..received.len]) else { return };
                    let answer = request.answer(rows.clone());
                    assert!(answer.len() <= MAX_MESSAGE);
                    send(&fronts, &answer, &[], SendFlags::empty()).expect("it works");
                }
            });
            let answer = front_status(ours.as_fd());
            drop(ours);
            answer
        })
    }

    #[test]
    fn every_row_comes_whatever_their_number() {
        assert_eq!(asked(Vec::new()).expect("it works"), []);
        let mut rows: Vec<_> = (0..1024).map(row).collect();
        rows.push(OwnerStatus { done: 7, ..OwnerStatus::default() });
        let length = rmp_serde::to_vec_named(&rows).expect("it works").len();
        assert!(length > MAX_MESSAGE, "more than one datagram is needed: {length}");
        assert_eq!(asked(rows.clone()).expect("it works"), rows);
    }
}
