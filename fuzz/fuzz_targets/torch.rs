#![no_main]
#[path = "../cases/torch.rs"]
mod torch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| torch::case(bytes));
