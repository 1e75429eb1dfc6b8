//! What supervisor and front say to each other.

use crate::files::file;
use luassl_daemon::push::{PushReply, receive_settings};
use luassl_daemon::settings::Settings;

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
        assert!(reply.encode().len() <= luassl_daemon::push::MAX_MESSAGE);
    }
}
