#![no_main]
#[path = "../cases/answer.rs"]
mod answer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| answer::case(bytes));
