//! What keeper, fronts and supervisor say to each other: no bytes may make a decoder panic, and what decodes says the
//! same when it is encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
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

fuzz_target!(|data: &[u8]| {
    round!(front::Request, data);
    round!(front::Answer, data);
    round!(admin::Request, data);
    round!(admin::Answer, data);
});
