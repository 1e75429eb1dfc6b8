//! What keeper, fronts and supervisor say to each other, and what the keeper is asked to sign.

use luassl_keeper::handshake_message::HandshakeMessage;
use luassl_keeper_ipc::{admin, front};
use recogniser::Verdict;

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

// The keeper's tests drive the same two.
#[path = "../../keeper/tests/kit/recogniser.rs"]
#[allow(unreachable_pub, missing_docs, reason = "a part of another crate's tests")]
mod recogniser;
#[path = "../../keeper/tests/kit/shapes.rs"]
#[allow(unreachable_pub, missing_docs, dead_code, reason = "as above")]
mod shapes;

/// What the keeper looks at before it signs: no message makes the parser panic, and a second one says the same. The
/// bytes are a message, and choices of the generator that knows the shapes.
pub(crate) fn handshake_message(bytes: &[u8]) {
    agree(bytes);
    agree(&shapes::message(&mut shapes::Choices::new(bytes)));
}

fn agree(message: &[u8]) {
    let second = recogniser::verdict(message);
    match (HandshakeMessage::of(message), &second) {
        (Ok(HandshakeMessage::Server13), Verdict::Server13)
        | (Ok(HandshakeMessage::Client13), Verdict::Client13)
        | (Ok(HandshakeMessage::Dhe12), Verdict::Dhe)
        | (Err(_), Verdict::Nothing) => {}
        (Ok(HandshakeMessage::Ecdhe12 { curve, point }), Verdict::Ecdhe(also, place)) => {
            assert_eq!((curve, point), (*also, &message[place.clone()]));
        }
        (Ok(HandshakeMessage::Client12 { leaf }), Verdict::Client12(place)) => {
            assert_eq!(leaf, &message[place.clone()])
        }
        (first, second) => panic!("{first:?} and {second:?}"),
    }
}
