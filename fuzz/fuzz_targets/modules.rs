#![no_main]
#[path = "../cases/modules.rs"]
mod modules;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| modules::case(bytes));
