#![no_main]
#[path = "../cases/gguf.rs"]
mod gguf;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gguf::case(bytes));
