//! What the keeper looks at before it signs: no message may make the check panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use luassl_keeper::structure::Shape;

fuzz_target!(|data: &[u8]| {
    if let Ok(Shape::Client12 { leaf }) = Shape::of(data) {
        assert!(!leaf.is_empty());
    }
});
