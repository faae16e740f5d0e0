#![no_main]
#[path = "../cases/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| config::case(bytes));
