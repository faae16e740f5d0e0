//! Exported ONNX graphs of embedding models, run as they are by `rten`, a runtime in Rust alone.
//!
//! What a graph takes and gives is found out when it is opened: the inputs by their names, the kind and the width of the output by
//! running three tokens. Sequences of one length run together, so that nothing is padded.

mod graph;
mod zero_points;

pub use graph::{Graph, Kind};
