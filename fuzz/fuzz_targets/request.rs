#![no_main]
#[path = "../cases/request.rs"]
mod request;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| request::case(bytes));
