//! A graph with its inputs and its output.

use crate::zero_points;
use embral_types::{Error, ErrorKind, Result, guarded};
use rten::{DataType, Dimension, Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueType};
use rten_onnx::onnx::ModelProto;
use rten_tensor::prelude::*;
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Tokens that run together, where so many sequences are of one length.
const TOKENS: usize = 4_096;
/// Tokens of the run that shows what the output is.
const PROBE: usize = 3;
/// Outputs that are one vector a sequence, and then those that are rows of tokens, best first.
const NAMES: [&str; 7] = [
    "sentence_embedding",
    "sentence_embeddings",
    "text_embeds",
    "embeddings",
    "last_hidden_state",
    "token_embeddings",
    "hidden_states",
];

/// What a graph gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One row a token, `[batch, tokens, width]`: to be pooled.
    Tokens,
    /// One row a sequence, `[batch, width]`.
    Sequences,
}

/// An exported embedding model.
pub struct Graph {
    file: PathBuf,
    model: Model,
    inputs: Inputs,
    output: NodeId,
    output_name: String,
    kind: Kind,
    width: usize,
    /// Sequences that may run together: 1 where the graph was exported for one.
    together: usize,
    pool: Arc<ThreadPool>,
}

/// The inputs by what they mean.
struct Inputs {
    ids: NodeId,
    others: Vec<(NodeId, Other)>,
}

#[derive(Clone, Copy)]
enum Other {
    /// 1 for every token.
    Mask,
    /// 0 for every token.
    Types,
    /// The place in the sequence.
    Positions,
}

impl Graph {
    /// Reads a graph, with weights beside it where it has them there, and runs it once.
    ///
    /// # Errors
    /// Where the file is no ONNX graph, has an operator that the runtime does not have, an input that is not known, or integers
    /// that the runtime would multiply wrongly.
    pub fn open(file: &Path, threads: usize) -> Result<Self> {
        Self::read(file, threads).map_err(|e| e.in_file(file))
    }

    fn read(file: &Path, threads: usize) -> Result<Self> {
        let bytes = fs::read(file).map_err(|e| Error::io("cannot read", file, e))?;
        let damaged = || malformed("expected an ONNX graph, found bytes that are none");
        let proto = guarded(|| ModelProto::parse_buf(&bytes)).ok_or_else(damaged)?;
        let proto = proto.map_err(|e| malformed(format!("expected an ONNX graph: {e}")))?;
        drop(bytes);
        zero_points::check(&proto)?;
        drop(proto);
        // Packed in advance, weights of 8 bits with a zero point are multiplied wrongly: `zero_points` knows.
        let load = || ModelOptions::with_all_ops().prepack_weights(false).load_file(file);
        let model = guarded(load).ok_or_else(damaged)?.map_err(|e| {
            Error::new(ErrorKind::Unsupported, format!("the graph cannot be loaded: {e}"))
                .hint("take the model in safetensors, or export it again without fused operators")
        })?;
        let (inputs, together) = find_inputs(&model)?;
        let pool = Arc::new(ThreadPool::with_num_threads(threads.max(1)));
        let (output, output_name) = find_output(&model)?;
        let (kind, width) = (Kind::Tokens, 0);
        let mut graph = Self { file: file.to_owned(), model, inputs, output, output_name, kind, width, together, pool };
        let (shape, _) = graph.compute(&[0; PROBE], 1, PROBE)?;
        (graph.kind, graph.width) = match shape[..] {
            [1, width] if width > 0 => (Kind::Sequences, width),
            [1, PROBE, width] if width > 0 => (Kind::Tokens, width),
            _ => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "output {:?}: expected [batch, width] or [batch, tokens, width], found {shape:?} for 1 text of {PROBE} tokens",
                        graph.output_name
                    ),
                ));
            }
        };
        Ok(graph)
    }

    /// What the output is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Components of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The name of the output.
    pub fn output(&self) -> &str {
        &self.output_name
    }

    /// Runs the sequences `ids[offsets[i]..offsets[i + 1]]`; `out` takes `width` values for each token or each sequence, as
    /// [`Graph::kind`] says. A sequence without tokens has a row of zeros.
    ///
    /// # Errors
    /// Where the graph fails on them.
    ///
    /// # Panics
    /// Where `out` has not just that length.
    pub fn run(&self, ids: &[u32], offsets: &[u32], out: &mut [f32]) -> Result<()> {
        let sequences = offsets.len().saturating_sub(1);
        let rows = if self.kind == Kind::Tokens { ids.len() } else { sequences };
        assert_eq!(out.len(), rows * self.width, "out is [{rows}, {}]", self.width);
        out.fill(0.0);
        let mut by_length = BTreeMap::<usize, Vec<usize>>::new();
        for (i, ends) in offsets.windows(2).enumerate() {
            by_length.entry((ends[1] - ends[0]) as usize).or_default().push(i);
        }
        by_length.remove(&0);
        for (length, members) in by_length {
            for members in members.chunks((TOKENS / length).clamp(1, self.together)) {
                let taken = |&i: &usize| &ids[offsets[i] as usize..][..length];
                let input: Vec<i32> = members.iter().flat_map(taken).map(|&id| id as i32).collect();
                let (shape, values) = self.compute(&input, members.len(), length).map_err(|e| e.in_file(&self.file))?;
                let each = if self.kind == Kind::Tokens { length * self.width } else { self.width };
                if values.len() != members.len() * each {
                    return Err(Error::new(
                        ErrorKind::Mismatch,
                        format!(
                            "output {:?}: expected {} values for {} texts of {length} tokens, found the shape {shape:?}",
                            self.output_name,
                            members.len() * each,
                            members.len()
                        ),
                    )
                    .in_file(&self.file));
                }
                for (&i, values) in members.iter().zip(values.chunks_exact(each)) {
                    let row = if self.kind == Kind::Tokens { offsets[i] as usize } else { i };
                    out[row * self.width..][..each].copy_from_slice(values);
                }
            }
        }
        Ok(())
    }

    /// The shape and the values of the output for `count` sequences of `length` tokens.
    fn compute(&self, ids: &[i32], count: usize, length: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let value = |values: Vec<i32>| {
            Value::from_shape([count, length], values).map_err(|e| Error::new(ErrorKind::InvalidInput, e.to_string()))
        };
        let mut inputs = vec![(self.inputs.ids, value(ids.to_vec())?.into())];
        for &(id, other) in &self.inputs.others {
            let values = match other {
                Other::Mask => vec![1; count * length],
                Other::Types => vec![0; count * length],
                Other::Positions => (0..count).flat_map(|_| 0..length as i32).collect(),
            };
            inputs.push((id, value(values)?.into()));
        }
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        let failed = |what: String| {
            Error::new(ErrorKind::Unsupported, format!("the graph failed on {count} texts of {length} tokens: {what}"))
        };
        let outputs = guarded(|| self.model.run(inputs, &[self.output], Some(options)))
            .ok_or_else(|| failed("the runtime panicked".to_owned()))?
            .map_err(|e| failed(e.to_string()))?;
        let output = outputs.into_iter().next().ok_or_else(|| failed("it gave nothing".to_owned()))?;
        let tensor = output.into_tensor::<f32>().ok_or_else(|| failed("its output is not of floats".to_owned()))?;
        Ok((tensor.shape().to_vec(), tensor.to_vec()))
    }
}

fn find_inputs(model: &Model) -> Result<(Inputs, usize)> {
    let name = |id: NodeId| model.node_info(id).and_then(|info| info.name()).unwrap_or_default();
    let all = model.input_ids();
    let (mut ids, mut others, mut together) = (None, Vec::new(), usize::MAX);
    for (index, &id) in all.iter().enumerate() {
        match name(id) {
            "input_ids" | "ids" | "tokens" => ids = Some(id),
            "attention_mask" | "mask" => others.push((id, Other::Mask)),
            "token_type_ids" | "segment_ids" => others.push((id, Other::Types)),
            "position_ids" => others.push((id, Other::Positions)),
            _ if all.len() == 1 => ids = Some(id),
            found => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "expected the inputs input_ids, attention_mask, token_type_ids and position_ids, found {found:?} besides"
                    ),
                ));
            }
        }
        match &model.input_shape(index).unwrap_or_default()[..] {
            [_, Dimension::Fixed(tokens)] => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("input {:?}: expected any number of tokens, found a graph for {tokens}", name(id)),
                )
                .hint("export the model with a dynamic sequence axis"));
            }
            [Dimension::Fixed(batch), _] => together = (*batch).min(together),
            _ => {}
        }
    }
    if together != usize::MAX && together != 1 {
        let message = format!("expected any number of texts, or one at a time, found a graph for {together}");
        return Err(Error::new(ErrorKind::Unsupported, message).hint("export the model with a dynamic batch axis"));
    }
    match ids {
        Some(ids) => Ok((Inputs { ids, others }, together)),
        None => Err(Error::new(ErrorKind::Unsupported, "expected an input called input_ids, found none")),
    }
}

/// The output by name; else the first of floats.
fn find_output(model: &Model) -> Result<(NodeId, String)> {
    let all: Vec<(NodeId, String)> = model
        .output_ids()
        .iter()
        .filter_map(|&id| {
            let info = model.node_info(id)?;
            let floats = !matches!(info.dtype(), Some(ValueType::Tensor(found)) if found != DataType::Float);
            floats.then(|| (id, info.name().unwrap_or_default().to_owned()))
        })
        .collect();
    let named = NAMES.iter().find_map(|name| all.iter().find(|(_, found)| found == name));
    named
        .or(all.first())
        .cloned()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "expected an output of floats, found none"))
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({}, {:?} of {})", self.file.display(), self.kind, self.width)
    }
}
