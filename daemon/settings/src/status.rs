//! The status of a front: its open objects and its counters, for each owner. A request is one datagram. The
//! response is one datagram with as many rows as fit. The next request contains the last received row.
//!
//! A front processes data from the network, so its response is not trusted: lengths, words and order are
//! checked before they are displayed to an operator.

use crate::error::MessageError;
use crate::push::MAX_MESSAGE;
use crate::text::is_plain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Add;

/// The version of the request and response that this code implements.
const VERSION: u32 = 1;
/// The maximum number of rows of one front: its limit on owners, and one row for the others.
pub const MAX_ROWS: usize = 1025;
/// The maximum number of reasons of one row, of either kind.
const MAX_REASONS: usize = 64;
/// The maximum length of a reason's word, in bytes.
const MAX_WORD: usize = 64;
/// The maximum length of a control socket's name, in bytes. It fits into a line of the audit log.
const MAX_SOCKET: usize = 255;

/// Represents all callers without a grant together. No user has this number.
pub const NO_GRANT: u32 = u32::MAX;

/// An owner's open objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Handshakes in progress.
    pub handshaking: u64,
    /// Established connections that no program has accepted yet.
    pub undelivered: u64,
    /// Connections in stream mode with the server role.
    pub server: u64,
    /// Connections in stream mode with the client role.
    pub client: u64,
    /// Connections in lock-step mode.
    pub lock_step: u64,
}

impl Add for Open {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            handshaking: self.handshaking + other.handshaking,
            undelivered: self.undelivered + other.undelivered,
            server: self.server + other.server,
            client: self.client + other.client,
            lock_step: self.lock_step + other.lock_step,
        }
    }
}

/// The row of one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerStatus {
    /// The named control socket, or `control`; empty for callers without a grant and for the row of the others.
    pub socket: String,
    /// The user; [`NO_GRANT`] for all callers without a grant, `None` for all others without their own row.
    pub uid: Option<u32>,
    /// The objects that are open now.
    pub open: Open,
    /// The number of successful handshakes since the front's start.
    pub done: u64,
    /// The number of failed handshakes, by reason.
    pub failed: BTreeMap<String, u64>,
    /// The number of refusals, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// The sort key of a row. The row of the others is last; the rows are in the order of control socket and
/// user.
type Key = (bool, String, u32);

impl OwnerStatus {
    fn key(&self) -> Key {
        (self.uid.is_none(), self.socket.clone(), self.uid.unwrap_or_default())
    }

    fn is_sound(&self) -> bool {
        let is_word = |word: &String| {
            let bare = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=MAX_WORD).contains(&word.len()) && word.bytes().all(bare)
        };
        let sound =
            |counts: &BTreeMap<String, u64>| counts.len() <= MAX_REASONS && counts.keys().all(is_word);
        let has_socket = self.uid.is_some_and(|uid| uid != NO_GRANT);
        self.socket.len() <= MAX_SOCKET
            && self.socket.is_empty() != has_socket
            && self.socket.chars().all(is_plain)
            && sound(&self.failed)
            && sound(&self.refused)
    }
}

/// The request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    version: u32,
    /// The last received row; `None` in the first request.
    status_after: Option<Key>,
}

impl StatusRequest {
    /// Decodes a request. Returns `None` if the datagram is not a request of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bounded = bytes.len() <= MAX_SOCKET + 64;
        let request: Self = bounded.then(|| rmp_serde::from_slice(bytes).ok()).flatten()?;
        (request.version == VERSION).then_some(request)
    }

    /// Creates a request for the rows after the given one, or for the first rows if there is none.
    #[must_use]
    pub fn after(row: Option<&OwnerStatus>) -> Self {
        Self { version: VERSION, status_after: row.map(OwnerStatus::key) }
    }

    /// Returns whether a row comes after the row in the request.
    #[must_use]
    pub fn comes_before(&self, row: &OwnerStatus) -> bool {
        Some(row.key()) > self.status_after
    }

    /// Encodes the request as a datagram.
    ///
    /// # Errors
    /// Returns [`MessageError::Malformed`] if it cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        rmp_serde::to_vec_named(self).map_err(|error| MessageError::Malformed(error.to_string()))
    }

    /// Returns the response: of the requested part of all `rows`, as many as fit into one datagram.
    #[must_use]
    pub fn answer(&self, mut rows: Vec<OwnerStatus>) -> Vec<u8> {
        rows.sort_by_key(OwnerStatus::key);
        let mut rows = rows
            .into_iter()
            .filter(|row| self.status_after.as_ref().is_none_or(|after| row.key() > *after))
            .peekable();
        let mut reply = StatusReply { version: VERSION, rows: Vec::new(), more: false };
        let mut room = MAX_MESSAGE - 64;
        while let Some(row) = rows.next_if(|row| encoded_len(row) <= room) {
            room -= encoded_len(&row);
            reply.rows.push(row);
        }
        // A row that does not fit into a datagram is left out. Otherwise it would be requested without end.
        reply.more = !reply.rows.is_empty() && rows.peek().is_some();
        rmp_serde::to_vec_named(&reply).unwrap_or_default()
    }
}

fn encoded_len(row: &OwnerStatus) -> usize {
    rmp_serde::to_vec_named(row).map_or(usize::MAX, |bytes| bytes.len())
}

/// The response to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    version: u32,
    /// The rows, in their order.
    pub rows: Vec<OwnerStatus>,
    /// Whether there are more rows.
    pub more: bool,
}

impl StatusReply {
    /// Decodes a response, and checks that all of its parts are within their limits.
    ///
    /// # Errors
    /// Returns [`MessageError::Malformed`] if it is not a valid response.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let malformed = |fault: &str| MessageError::Malformed(fault.to_owned());
        if bytes.len() > MAX_MESSAGE {
            return Err(malformed("the status is too long"));
        }
        let reply: Self =
            rmp_serde::from_slice(bytes).map_err(|error| MessageError::Malformed(error.to_string()))?;
        if reply.version != VERSION {
            return Err(malformed("the status is of another version: restart the unit after an update"));
        }
        let ordered = reply.rows.windows(2).all(|pair| pair[0].key() < pair[1].key());
        if reply.rows.len() > MAX_ROWS || !ordered || !reply.rows.iter().all(OwnerStatus::is_sound) {
            return Err(malformed("a row of the status is out of its bounds"));
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(uid: u32) -> OwnerStatus {
        let counts: BTreeMap<String, u64> =
            [("cut".to_owned(), u64::from(uid)), ("timeout".to_owned(), 1)].into();
        let (failed, refused) = (counts.clone(), counts);
        OwnerStatus { socket: "control".into(), uid: Some(uid), failed, refused, ..OwnerStatus::default() }
    }

    #[test]
    fn what_a_hostile_front_says_does_not_reach_the_terminal() {
        let reply = |row: OwnerStatus| {
            let reply = StatusReply { version: VERSION, rows: vec![row], more: false };
            StatusReply::decode(&rmp_serde::to_vec_named(&reply).unwrap())
        };
        assert!(reply(row(1)).is_ok());
        assert!(reply(OwnerStatus { socket: "\x1b[2J".into(), ..row(1) }).is_err());
        assert!(reply(OwnerStatus { socket: "a\u{202e}b".into(), ..row(1) }).is_err());
        assert!(reply(OwnerStatus { socket: "x".repeat(256), ..row(1) }).is_err());
        assert!(reply(OwnerStatus { socket: String::new(), ..row(1) }).is_err());
        assert!(reply(OwnerStatus { socket: String::new(), ..row(NO_GRANT) }).is_ok());
        assert!(reply(row(NO_GRANT)).is_err());
        for word in ["", "UPPER", "a b", "\n", &"x".repeat(65)] {
            assert!(reply(OwnerStatus { failed: [(word.to_owned(), 1)].into(), ..row(1) }).is_err());
        }
        let many = (0..65).map(|n| (format!("reason-{n}"), 1)).collect();
        assert!(reply(OwnerStatus { refused: many, ..row(1) }).is_err());
    }

    #[test]
    fn a_push_is_no_question() {
        assert_eq!(StatusRequest::decode(b"\x82\xa7version\x01\xa9listeners\x90"), None);
        let question = StatusRequest { version: VERSION, status_after: None }.encode().unwrap();
        assert!(crate::receive_settings(&question, Vec::new()).is_err());
        assert!(StatusRequest::decode(&question).is_some());
        let newer = StatusRequest { version: VERSION + 1, status_after: None }.encode().unwrap();
        assert_eq!(StatusRequest::decode(&newer), None);
    }

    prop_compose! {
        fn any_row()(
            socket in "[a-z]{1,12}", uid in any::<u32>(), done in any::<u64>(), server in any::<u64>(),
            failed in prop::collection::btree_map("[a-z-]{1,20}", any::<u64>(), 0..8),
            refused in prop::collection::btree_map("[a-z-]{1,20}", any::<u64>(), 0..8),
        ) -> OwnerStatus {
            let open = Open { server, ..Open::default() };
            OwnerStatus { socket, uid: Some(uid), open, done, failed, refused }
        }
    }

    proptest! {
        #[test]
        fn an_answer_reads_as_it_was_written(rows in prop::collection::vec(any_row(), 0..20)) {
            let mut rows = rows;
            rows.sort_by_key(OwnerStatus::key);
            rows.dedup_by_key(|row| row.key());
            let request = StatusRequest { version: VERSION, status_after: None };
            prop_assert_eq!(StatusRequest::decode(&request.encode().unwrap()), Some(request.clone()));
            let reply = StatusReply::decode(&request.answer(rows.clone())).unwrap();
            prop_assert_eq!(reply, StatusReply { version: VERSION, rows, more: false });
        }

        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = StatusRequest::decode(&bytes);
            let _ = StatusReply::decode(&bytes);
        }
    }
}
