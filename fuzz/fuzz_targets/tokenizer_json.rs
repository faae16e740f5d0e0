#![no_main]
#[path = "../cases/tokenizer_json.rs"]
mod tokenizer_json;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tokenizer_json::case(bytes));
