#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| luassl_fuzz::run("handshake_message", bytes));
