//! What computes a graph.

mod pure;

pub(crate) use pure::Pure;

use embral_types::{Error, ErrorKind, Result};

/// Something that runs one graph.
pub(crate) trait Runtime: Send + Sync {
    /// A name for people: the runtime and the hardware.
    fn describe(&self) -> String;

    /// The shape and the values of the output for one text of `length` tokens, `inputs` being what it is to each input.
    fn compute(&self, inputs: &[Vec<i64>], length: usize) -> Result<(Vec<usize>, Vec<f32>)>;

    /// How many texts may be computed at a time.
    fn at_once(&self) -> usize;
}

/// What a run failed with.
fn failed(length: usize, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the graph failed on a text of {length} tokens: {what}"))
}
