#![no_main]
#[path = "../cases/safetensors.rs"]
mod safetensors;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| safetensors::case(bytes));
