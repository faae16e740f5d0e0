//! One ONNX file, not run: what is said of an accepted one is bounded by what is in it.

use embral_onnx::Facts;

pub(crate) fn case(bytes: &[u8]) {
    embral_types::silence_guarded();
    let Ok(facts) = Facts::parse(bytes) else { return };
    assert!(facts.operators <= bytes.len(), "an operator takes bytes");
    assert!(facts.bytes <= 2 * bytes.len(), "a constant of 4 bytes may be written in 2");
    assert!(!facts.dynamic || facts.integers, "what rounds activations computes with integers");
}
