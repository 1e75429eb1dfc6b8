//! What supervisor and front say to each other.

use crate::files::file;
use luassl_settings::Settings;
use luassl_settings::{MAX_MESSAGE, PushReply, StatusReply, StatusRequest, receive_settings};

/// The header of a push, and the settings in its memory file; the front's answer. What can be read is written again
/// and reads the same.
pub(crate) fn settings(bytes: &[u8]) {
    const HEADER: &[u8] = b"\x82\xa7version\x01\xa9listeners\x90";
    let _ = receive_settings(bytes, vec![file(&[])]);
    if let Ok(push) = receive_settings(HEADER, vec![file(bytes)]) {
        let written = rmp_serde::to_vec_named(&push.settings).expect("what was read can be written");
        let again: Settings = rmp_serde::from_slice(&written).expect("what was written can be read");
        assert_eq!(again, push.settings);
    }
    if let Ok(reply) = rmp_serde::from_slice::<PushReply>(bytes) {
        assert!(reply.encode().len() <= MAX_MESSAGE);
    }
}

/// The question for a front's status, and its answer. What is a question gets an answer within its bound; what is an
/// answer has nothing in it that a terminal would obey, and its rows are told again in the same order.
pub(crate) fn status(bytes: &[u8]) {
    let reply = StatusReply::decode(bytes);
    let rows = reply.map(|reply| reply.rows).unwrap_or_default();
    for row in &rows {
        let words = row.failed.keys().chain(row.refused.keys());
        assert!(words.chain([&row.socket]).all(|text| !text.chars().any(char::is_control)));
    }
    if let Some(request) = StatusRequest::decode(bytes) {
        assert!(request.answer(rows.clone()).len() <= MAX_MESSAGE);
    }
    let first =
        StatusRequest::decode(b"\x82\xa7version\x01\xacstatus_after\xc0").expect("the first question");
    let again = StatusReply::decode(&first.answer(rows.clone())).expect("what was written can be read");
    assert!(again.rows == rows || again.more);
}
