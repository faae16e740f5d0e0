#![no_main]
#[path = "../cases/tokenizer_json.rs"]
mod tokenizer_json;

use std::panic;

// libFuzzer's hook ends the process at every panic, those that the tokenizer turns into errors included; without it a panic that
// leaves the case still ends the process.
libfuzzer_sys::fuzz_target!(
    init: {
        panic::set_hook(Box::new(|panic| {
            if !panic.location().is_some_and(|place| place.file().contains("tokenizers-")) {
                eprintln!("{panic}");
            }
        }));
    },
    |bytes: &[u8]| tokenizer_json::case(bytes)
);
