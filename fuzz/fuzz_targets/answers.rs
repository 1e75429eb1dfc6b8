//! What a client reads from a front: answers, a handshake's result, deliveries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use luassl_protocol::{
    Delivery, HandshakeResult, Info, PeerCertificate, Status, Welcome, decode_reply, from_body, to_body,
};

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_reply::<Welcome>(bytes);
    let _ = decode_reply::<Info>(bytes);
    let _ = decode_reply::<Status>(bytes);
    let _ = decode_reply::<PeerCertificate>(bytes);
    let _ = from_body::<HandshakeResult>(bytes);
    if let Ok(delivery) = from_body::<Delivery>(bytes) {
        let again = to_body(&delivery).expect("what was read can be written");
        assert_eq!(from_body::<Delivery>(&again).expect("what was written can be read"), delivery);
    }
});
