//! What is read on a lock-step socket, by either side.
#![no_main]

use libfuzzer_sys::fuzz_target;
use luassl_protocol::{FRAME_HEADER, LockStepAnswer, LockStepRequest, from_body};

fuzz_target!(|bytes: &[u8]| {
    let _ = from_body::<LockStepAnswer>(bytes);
    if let Ok(request) = LockStepRequest::decode(bytes) {
        let frame = request.to_frame().expect("what was read can be written");
        assert_eq!(LockStepRequest::decode(&frame[FRAME_HEADER..]).expect("what was written can be read"), request);
    }
});
