#![no_main]
#[path = "../cases/shard_index.rs"]
mod shard_index;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shard_index::case(bytes));
