#![no_main]
#[path = "../cases/packed.rs"]
mod packed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| packed::case(bytes));
