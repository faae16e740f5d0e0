#![no_main]
#[path = "../cases/jsonl.rs"]
mod jsonl;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| jsonl::case(bytes));
