//! What Lua and the front say to each other.

use bytes::BytesMut;
use luassl_protocol::{
    CERTIFICATE_LABELS, Delivery, FRAME_HEADER, HandshakeResult, Info, LockStepAnswer, LockStepRequest,
    MAX_FRAME, OnKey, PeerCertificate, PemBlocks, Request, Status, Welcome, decode_reply, from_body,
    holds_private_key, take_frame, to_body, without_private_keys,
};

/// What a front reads from a client: frames with requests. Whatever is a request is written again and reads the same.
pub(crate) fn control(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(body)) = take_frame(&mut buffer, MAX_FRAME) {
        request(&body);
    }
    request(bytes);
}

fn request(body: &[u8]) {
    if let Ok((id, request)) = Request::decode(body) {
        let frame = request.to_frame(id).expect("what was read can be written");
        let again = Request::decode(&frame[FRAME_HEADER..]).expect("what was written can be read");
        assert_eq!(again, (id, request));
    }
}

/// What a client reads from a front: answers, a handshake's result, deliveries.
pub(crate) fn answers(bytes: &[u8]) {
    let _ = decode_reply::<Welcome>(bytes);
    let _ = decode_reply::<Info>(bytes);
    let _ = decode_reply::<Status>(bytes);
    let _ = decode_reply::<PeerCertificate>(bytes);
    let _ = from_body::<HandshakeResult>(bytes);
    if let Ok(delivery) = from_body::<Delivery>(bytes) {
        let again = to_body(&delivery).expect("what was read can be written");
        assert_eq!(from_body::<Delivery>(&again).expect("what was written can be read"), delivery);
    }
}

/// What is read on a lock-step socket, by either side.
pub(crate) fn lock_step(bytes: &[u8]) {
    let _ = from_body::<LockStepAnswer>(bytes);
    if let Ok(request) = LockStepRequest::decode(bytes) {
        let frame = request.to_frame().expect("what was read can be written");
        let again = LockStepRequest::decode(&frame[FRAME_HEADER..]).expect("what was written can be read");
        assert_eq!(again, request);
    }
}

/// What a program's files become before they are sent: no private key stays in them.
pub(crate) fn material(bytes: &[u8]) {
    let public = without_private_keys(bytes);
    assert!(!holds_private_key(&public), "a private key would be sent");
    assert!(public.len() <= bytes.len());
    let mut blocks = PemBlocks::new(CERTIFICATE_LABELS, OnKey::Skip);
    if let Ok(found) = blocks.push(bytes).and_then(|()| blocks.finish()) {
        assert!(!holds_private_key(&found.concat()), "a private key would be sent");
    }
}
