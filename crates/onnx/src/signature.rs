//! What a graph takes and gives, by the names that exporters use.

use crate::graph::Wish;
use embral_types::{Error, ErrorKind, Result};
use rten_onnx::onnx::{DataType, Dimension, GraphProto, ValueInfoProto};
use std::collections::HashSet;

/// Outputs that are one vector a text, best first.
const VECTORS: [&str; 5] = ["sentence_embedding", "sentence_embeddings", "text_embeds", "embeddings", "dense_vecs"];
/// Outputs that are one row a token, best first.
const ROWS: [&str; 3] = ["last_hidden_state", "token_embeddings", "hidden_states"];
/// Outputs that are numbers of something else: what a classifier says, and the row that BERT was trained to guess the next sentence by.
const OTHERS: [&str; 4] = ["logits", "pooler_output", "scores", "start_logits"];

/// What an input is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The tokens.
    Ids,
    /// 1 for every token.
    Mask,
    /// 0 for every token.
    Types,
    /// The place in the text.
    Positions,
}

/// The numbers of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    I32,
    I64,
    F32,
}

/// An input, `[texts, tokens]`.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) meaning: Meaning,
    pub(crate) number: Number,
}

impl Input {
    /// What one text is to this input.
    pub(crate) fn of(&self, ids: &[u32]) -> Vec<i64> {
        match self.meaning {
            Meaning::Ids => ids.iter().map(|&id| id.into()).collect(),
            Meaning::Mask => vec![1; ids.len()],
            Meaning::Types => vec![0; ids.len()],
            Meaning::Positions => (0..).take(ids.len()).collect(),
        }
    }
}

/// The inputs of a graph, and the output that is read.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    pub(crate) inputs: Vec<Input>,
    pub(crate) output: String,
}

impl Signature {
    pub(crate) fn of(graph: &GraphProto, wish: Wish) -> Result<Self> {
        Ok(Self { inputs: inputs(graph)?, output: output(graph, wish)? })
    }
}

fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

fn inputs(graph: &GraphProto) -> Result<Vec<Input>> {
    // Until IR 4 every constant was an input too.
    let constants: HashSet<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let given: Vec<(&str, &ValueInfoProto)> = graph
        .input
        .iter()
        .map(|value| (value.name.as_deref().unwrap_or_default(), value))
        .filter(|(name, _)| !constants.contains(name))
        .collect();
    let mut inputs = Vec::new();
    for &(name, value) in &given {
        let meaning = match name {
            "input_ids" | "ids" | "tokens" => Meaning::Ids,
            "attention_mask" | "input_mask" | "mask" => Meaning::Mask,
            "token_type_ids" | "segment_ids" => Meaning::Types,
            "position_ids" => Meaning::Positions,
            _ if given.len() == 1 => Meaning::Ids,
            found => {
                let message = format!(
                    "expected the inputs input_ids, attention_mask, token_type_ids and position_ids, found {found:?} besides"
                );
                return Err(unsupported(message)
                    .hint("export the model for feature extraction, without a cache or further inputs"));
            }
        };
        inputs.push(Input { name: name.to_owned(), meaning, number: number(name, value)? });
        check_axes(name, value)?;
    }
    if inputs.iter().any(|input| input.meaning == Meaning::Ids) {
        return Ok(inputs);
    }
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    Err(unsupported(format!("expected an input called input_ids, found {names:?}")))
}

fn number(name: &str, value: &ValueInfoProto) -> Result<Number> {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    match tensor.and_then(|tensor| tensor.elem_type) {
        None | Some(DataType::INT64) => Ok(Number::I64),
        Some(DataType::INT32) => Ok(Number::I32),
        Some(DataType::FLOAT) => Ok(Number::F32),
        Some(other) => Err(unsupported(format!("input {name:?}: expected INT64, INT32 or FLOAT, found {other}"))),
    }
}

/// Refuses axes for one number of tokens, or for several texts.
fn check_axes(name: &str, value: &ValueInfoProto) -> Result<()> {
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let Some(shape) = tensor.and_then(|tensor| tensor.shape.as_ref()) else { return Ok(()) };
    let fixed = |dimension: &Dimension| dimension.dim_value.filter(|&n| n > 0);
    match &shape.dim[..] {
        [texts, tokens] => {
            if let Some(tokens) = fixed(tokens) {
                let message = format!("input {name:?}: expected any number of tokens, found a graph for {tokens}");
                return Err(unsupported(message).hint("export the model with a dynamic sequence axis"));
            }
            if let Some(texts) = fixed(texts).filter(|&texts| texts != 1) {
                let message =
                    format!("input {name:?}: expected any number of texts, or one, found a graph for {texts}");
                return Err(unsupported(message).hint("export the model with a dynamic batch axis"));
            }
            Ok(())
        }
        other => Err(unsupported(format!("input {name:?}: expected [texts, tokens], found {} axes", other.len()))),
    }
}

/// The output that is read: rows of tokens or vectors of texts by their names, whatever is wished for first, and then any floats.
fn output(graph: &GraphProto, wish: Wish) -> Result<String> {
    let floats = |value: &&ValueInfoProto| {
        let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let number = tensor.and_then(|tensor| tensor.elem_type);
        number.is_none_or(|n| [DataType::FLOAT, DataType::FLOAT16, DataType::BFLOAT16, DataType::DOUBLE].contains(&n))
    };
    let names: Vec<&str> = graph.output.iter().filter(floats).filter_map(|value| value.name.as_deref()).collect();
    let named = |list: &[&str]| list.iter().find_map(|wanted| names.iter().find(|name| *name == wanted)).copied();
    let found = match wish {
        Wish::Rows => named(&ROWS).or_else(|| named(&VECTORS)),
        Wish::Vectors => named(&VECTORS).or_else(|| named(&ROWS)),
    };
    found.or_else(|| names.iter().find(|name| !OTHERS.contains(name)).copied()).map(str::to_owned).ok_or_else(|| {
        let all: Vec<&str> = graph.output.iter().filter_map(|value| value.name.as_deref()).collect();
        unsupported(format!(
            "expected an output of floats that is an embedding (such as {:?} or {:?}), found {all:?}",
            ROWS[0], VECTORS[0]
        ))
        .hint("export the model for feature extraction")
    })
}
