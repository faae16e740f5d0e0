//! The seeds of the fuzz target through the same checks, without a fuzzer.

#[path = "../../../fuzz/cases/onnx.rs"]
mod onnx;
#[path = "../../../fuzz/cases/seeds.rs"]
mod seeds;

#[test]
fn graphs() {
    seeds::run("onnx", onnx::case);
}
