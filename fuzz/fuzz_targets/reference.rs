#![no_main]
#[path = "../cases/reference.rs"]
mod reference;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reference::case(bytes));
