//! What a front reads from a client: frames with requests. Whatever is a request is written again and reads the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use luassl_protocol::{FRAME_HEADER, MAX_FRAME, Request, take_frame};

fuzz_target!(|bytes: &[u8]| {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(body)) = take_frame(&mut buffer, MAX_FRAME) {
        check(&body);
    }
    check(bytes);
});

fn check(body: &[u8]) {
    if let Ok((id, request)) = Request::decode(body) {
        let frame = request.to_frame(id).expect("what was read can be written");
        let again = Request::decode(&frame[FRAME_HEADER..]).expect("what was written can be read");
        assert_eq!(again, (id, request));
    }
}
