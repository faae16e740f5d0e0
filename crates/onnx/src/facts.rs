//! What there is to say about a graph without running it.

use crate::external::External;
use embral_types::{Error, Result};
use rten_onnx::onnx::{GraphProto, ModelProto, TensorProto};
use std::path::Path;

/// Bytes of each end of a tensor that [`Facts::sample`] holds.
const SAMPLE: usize = 64;
/// Operators that make 8-bit integers of a whole input by one scale, which depends on all that is in the input.
const DYNAMIC: &str = "DynamicQuantizeLinear";
/// Operators on integers or on weights of few bits.
const INTEGERS: [&str; 6] =
    ["MatMulInteger", "ConvInteger", "QLinearMatMul", "MatMulNBits", "DequantizeLinear", "DynamicQuantizeMatMul"];

/// What a graph is made of.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Numbers in its constants.
    pub parameters: usize,
    /// Bytes of its constants.
    pub bytes: usize,
    /// Operators, those in branches and loops left out.
    pub operators: usize,
    /// The version of the standard operators.
    pub opset: i64,
    /// Who exported it, where it says.
    pub producer: Option<String>,
    /// Whether it computes with integers, or with weights of few bits.
    pub integers: bool,
    /// Whether it makes integers of activations by a scale for the whole input.
    pub dynamic: bool,
    /// Names, formats, shapes and the ends of the values of its constants, and its operators: what a model is known by, wherever it lies.
    pub sample: Vec<u8>,
}

impl Facts {
    /// Of a graph in `folder`, where constants may lie in files of their own; without a folder these are passed over.
    pub(crate) fn of(model: &ModelProto, graph: &GraphProto, folder: Option<&Path>) -> Result<Self> {
        let standard = |domain: Option<&str>| domain.is_none_or(|d| d.is_empty() || d == "ai.onnx");
        let opset = model.opset_import.iter().find(|opset| standard(opset.domain.as_deref()));
        let mut facts = Self {
            operators: graph.node.len(),
            opset: opset.and_then(|opset| opset.version).unwrap_or_default(),
            producer: model.producer_name.clone().filter(|name| !name.is_empty()),
            ..Self::default()
        };
        for node in &graph.node {
            let kind = node.op_type.as_deref().unwrap_or_default();
            facts.dynamic |= kind == DYNAMIC;
            facts.integers |= kind == DYNAMIC || INTEGERS.contains(&kind);
            facts.sample.extend(kind.as_bytes());
            facts.sample.push(b';');
        }
        for tensor in &graph.initializer {
            facts.add(tensor, folder)?;
        }
        Ok(facts)
    }

    fn add(&mut self, tensor: &TensorProto, folder: Option<&Path>) -> Result<()> {
        let count = |n: usize, &d: &i64| n.saturating_mul(usize::try_from(d).unwrap_or(0));
        let count = tensor.dims.iter().fold(1, count);
        let head = format!("{:?} {:?} {:?};", tensor.name, tensor.data_type.map(|kind| kind.0), tensor.dims);
        self.parameters = self.parameters.saturating_add(count);
        self.sample.extend(head.into_bytes());
        let external = folder.map_or(Ok(None), |folder| External::of(tensor, folder))?;
        let bytes = match (external, &tensor.raw_data) {
            (Some(external), _) => {
                let ends = external.ends(SAMPLE as u64).map_err(|e| Error::io("cannot read", external.file(), e))?;
                self.sample.extend(ends);
                usize::try_from(external.length).unwrap_or(usize::MAX)
            }
            (None, Some(raw)) => {
                let raw = raw.borrow();
                self.sample.extend(&raw[..raw.len().min(SAMPLE)]);
                self.sample.extend(&raw[raw.len().saturating_sub(SAMPLE)..]);
                raw.len()
            }
            (None, None) => {
                let first = |values: usize| values.min(SAMPLE);
                let floats = &tensor.float_data[..first(tensor.float_data.len())];
                let ints = &tensor.int32_data[..first(tensor.int32_data.len())];
                let longs = &tensor.int64_data[..first(tensor.int64_data.len())];
                self.sample.extend(format!("{floats:?} {ints:?} {longs:?};").into_bytes());
                4 * (tensor.float_data.len() + tensor.int32_data.len()) + 8 * tensor.int64_data.len()
            }
        };
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}
