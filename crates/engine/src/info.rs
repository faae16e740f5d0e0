//! What an opened model is.

use embral_types::{Pooling, Precision};
use std::{collections::BTreeMap, path::PathBuf};

/// What an opened model is.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The name it was opened by.
    pub name: String,
    /// A hash of the names, formats, shapes and the ends of the values of its weights: the same wherever the model lies and however
    /// it is called.
    pub fingerprint: String,
    /// Its folder; `None` for the model inside the library.
    pub path: Option<PathBuf>,
    /// The architecture, as `model_type` of its configuration.
    pub architecture: String,
    /// Components of a vector, after a Matryoshka cut.
    pub dimensions: usize,
    /// Components of a vector before a Matryoshka cut.
    pub width: usize,
    /// The longest text in tokens, special tokens included; `usize::MAX` where there is no limit.
    pub max_tokens: usize,
    /// Numbers in the weight files.
    pub parameters: usize,
    /// Blocks; 0 for a static model.
    pub layers: usize,
    /// The width of a token row.
    pub hidden: usize,
    /// How token rows become one row.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalize: bool,
    /// The model's prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt used where none is given.
    pub default_prompt: Option<String>,
    /// The widths it was trained to be cut to.
    pub matryoshka: Vec<usize>,
    /// In which numbers it is computed.
    pub precision: Precision,
    /// Bytes of the weight files.
    pub weight_bytes: usize,
    /// The hardware and instructions it runs on.
    pub device: String,
    /// The exported graph that is run; `None` where the model is computed from its weights.
    pub graph: Option<GraphInfo>,
    /// What is worth saying once about how it runs, each a line.
    pub remarks: Vec<String>,
}

/// An exported graph, as it was found when it was opened.
#[derive(Clone, Debug)]
pub struct GraphInfo {
    /// The ONNX file.
    pub file: PathBuf,
    /// The names of its inputs.
    pub inputs: Vec<String>,
    /// The name of the output that is read.
    pub output: String,
    /// Whether the output is one vector a text, so that the graph pools by itself; else it is one row a token.
    pub pooled: bool,
    /// Operators.
    pub operators: usize,
    /// The version of the standard operators.
    pub opset: i64,
    /// Who exported it, where it says.
    pub producer: Option<String>,
    /// Whether it computes with 8-bit integers, or with weights of few bits.
    pub integers: bool,
}
