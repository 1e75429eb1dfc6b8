//! What keeper, fronts and supervisor say to each other, and what the keeper is asked to sign.

use luassl_keeper::structure::Shape;
use luassl_keeper_ipc::{admin, front};

macro_rules! round {
    ($module:ident :: $message:ident, $data:expr) => {
        if let Ok(message) = $module::$message::decode($data) {
            let mut again = Vec::new();
            // A message may be longer than a sender may make it; then it is refused.
            if message.encode(&mut again).is_ok() {
                assert_eq!(again, $data);
            }
        }
    };
}

/// No bytes make a decoder panic, on neither side, and what decodes says the same when it is encoded again.
pub(crate) fn messages(bytes: &[u8]) {
    round!(front::Request, bytes);
    round!(front::Answer, bytes);
    round!(admin::Request, bytes);
    round!(admin::Answer, bytes);
}

/// What the keeper looks at before it signs: no message makes the check panic, and what it lets through is what it
/// says.
pub(crate) fn structure(bytes: &[u8]) {
    match Shape::of(bytes) {
        Ok(Shape::Client12 { leaf }) => assert!(!leaf.is_empty()),
        Ok(Shape::Server13 | Shape::Client13) => {
            let text: &[u8] =
                if matches!(Shape::of(bytes), Ok(Shape::Server13)) { b"server" } else { b"client" };
            assert!(bytes.len() == 130 || bytes.len() == 146, "a hash of {} bytes", bytes.len() - 98);
            assert!(bytes[..64].iter().all(|byte| *byte == 0x20) && bytes[64..].starts_with(b"TLS 1.3, "));
            assert_eq!(&bytes[73..79], text);
        }
        Ok(Shape::Server12) => assert!(bytes.len() <= 4096, "{} bytes of parameters", bytes.len()),
        Err(_) => {}
    }
}
