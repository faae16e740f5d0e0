#![no_main]
#[path = "../cases/parquet.rs"]
mod parquet;

use std::panic;

// As in tokenizer_json.rs: the reader turns panics of the parquet and arrow crates into errors.
libfuzzer_sys::fuzz_target!(
    init: {
        panic::set_hook(Box::new(|panic| {
            if !panic.location().is_some_and(|place| place.file().contains("/parquet-") || place.file().contains("/arrow-")) {
                eprintln!("{panic}");
            }
        }));
    },
    |bytes: &[u8]| parquet::case(bytes)
);
