#![no_main]
#[path = "../cases/archive.rs"]
mod archive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| archive::case(bytes));
