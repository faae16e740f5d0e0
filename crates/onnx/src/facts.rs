//! What there is to say about a graph without running it.

use rten_onnx::onnx::{DataLocation, GraphProto, ModelProto, TensorProto};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

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
    /// Of a graph in `folder`, where constants may lie in files of their own.
    pub(crate) fn of(model: &ModelProto, graph: &GraphProto, folder: &Path) -> Self {
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
            facts.add(tensor, folder);
        }
        facts
    }

    fn add(&mut self, tensor: &TensorProto, folder: &Path) {
        let count = |n: usize, &d: &i64| n.saturating_mul(usize::try_from(d).unwrap_or(0));
        let count = tensor.dims.iter().fold(1, count);
        let head = format!("{:?} {:?} {:?};", tensor.name, tensor.data_type.map(|kind| kind.0), tensor.dims);
        self.parameters = self.parameters.saturating_add(count);
        self.sample.extend(head.into_bytes());
        let bytes = match &tensor.raw_data {
            Some(raw) => {
                let raw = raw.borrow();
                self.sample.extend(&raw[..raw.len().min(SAMPLE)]);
                self.sample.extend(&raw[raw.len().saturating_sub(SAMPLE)..]);
                raw.len()
            }
            None if tensor.data_location == Some(DataLocation::EXTERNAL) => self.add_external(tensor, folder),
            None => {
                let first = |values: usize| values.min(SAMPLE);
                let floats = &tensor.float_data[..first(tensor.float_data.len())];
                let ints = &tensor.int32_data[..first(tensor.int32_data.len())];
                let longs = &tensor.int64_data[..first(tensor.int64_data.len())];
                self.sample.extend(format!("{floats:?} {ints:?} {longs:?};").into_bytes());
                4 * (tensor.float_data.len() + tensor.int32_data.len()) + 8 * tensor.int64_data.len()
            }
        };
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The ends of a constant in a file of its own, and its bytes. What cannot be read fails when the graph is loaded.
    fn add_external(&mut self, tensor: &TensorProto, folder: &Path) -> usize {
        let value = |key: &str| {
            let entry = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            entry.and_then(|entry| entry.value.as_deref())
        };
        let number = |key: &str| value(key).and_then(|text| text.parse::<u64>().ok());
        let Some(location) = value("location") else { return 0 };
        // A path that leads out of the folder is for the loader to refuse.
        if Path::new(location).components().count() != 1 {
            return 0;
        }
        let Ok(mut file) = File::open(folder.join(location)) else { return 0 };
        let whole = file.metadata().map_or(0, |m| m.len());
        let offset = number("offset").unwrap_or(0).min(whole);
        let length = number("length").unwrap_or(whole - offset).min(whole - offset);
        let end = length.min(SAMPLE as u64);
        for at in [offset, offset + length - end] {
            let mut bytes = Vec::new();
            if file.seek(SeekFrom::Start(at)).is_ok() && (&mut file).take(end).read_to_end(&mut bytes).is_ok() {
                self.sample.extend(bytes);
            }
        }
        usize::try_from(length).unwrap_or(usize::MAX)
    }
}
