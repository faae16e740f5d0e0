#![no_main]
#[path = "../cases/onnx.rs"]
mod onnx;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| onnx::case(bytes));
