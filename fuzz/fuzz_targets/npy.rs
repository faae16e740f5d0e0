#![no_main]
#[path = "../cases/npy.rs"]
mod npy;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| npy::case(bytes));
