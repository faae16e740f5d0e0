#![no_main]
#[path = "../cases/parquet.rs"]
mod parquet;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parquet::case(bytes));
