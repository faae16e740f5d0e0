#![no_main]
#[path = "../cases/tokenizer_vocab.rs"]
mod tokenizer_vocab;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tokenizer_vocab::case(bytes));
