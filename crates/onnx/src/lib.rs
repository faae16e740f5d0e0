//! Exported ONNX graphs of embedding models, run as they are: by `rten`, a runtime in Rust alone, or, with the feature `ort`, by an
//! ONNX Runtime that is on the machine.
//!
//! What a graph takes and gives is found out once, when it is opened: the inputs and outputs by their names, the kind and the width of
//! the output by running three tokens. A text is computed by itself, several at a time on threads of their own: nothing is padded, and a
//! row depends on no other text. Graphs of 8-bit integers with one scale for a whole input, as `quantize_dynamic` makes them, keep that
//! promise too.

mod external;
mod facts;
mod graph;
mod integers;
mod nesting;
mod runtime;
mod signature;

pub use facts::Facts;
pub use graph::{Graph, Kind, Wish};
