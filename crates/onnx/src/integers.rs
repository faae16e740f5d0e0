//! Integer products that the runtime computes wrongly without saying so.
//!
//! `rten` 0.27 multiplies 8-bit weights wrongly where their zero points vary by column (more than 48 columns), and signed ones with any
//! zero point but 0 where weights are packed in advance. What is right on every path: signed weights with the zero point 0, and
//! unsigned ones with one zero point for all.

use embral_types::{Error, ErrorKind, Result};
use rten_onnx::onnx::{DataType, GraphProto, TensorProto};
use std::collections::HashMap;

const HINT: &str =
    "quantise the model to signed symmetric weights (QInt8), take it in f32, or run it by ONNX Runtime (feature ort)";

/// Refuses a graph with such a product, in itself or in a branch or a loop of it.
pub(crate) fn check(graph: &GraphProto) -> Result<()> {
    for inner in graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.g.as_ref()) {
        check(inner)?;
    }
    let known: HashMap<&str, &TensorProto> =
        graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_deref()?, tensor))).collect();
    for node in graph.node.iter().filter(|node| node.op_type.as_deref() == Some("MatMulInteger")) {
        let Some(name) = node.input.get(3).filter(|name| !name.is_empty()) else { continue };
        let found = match known.get(&name[..]) {
            Some(tensor) => verdict(tensor),
            None => Err("zero points that are computed".to_owned()),
        };
        found.map_err(|found| {
            let node = node.name.as_deref().unwrap_or_default();
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "MatMulInteger {node:?}: expected signed weights with the zero point 0, or unsigned ones with one zero point, \
                     found {found}, which this runtime multiplies wrongly"
                ),
            )
            .hint(HINT)
        })?;
    }
    Ok(())
}

fn verdict(tensor: &TensorProto) -> std::result::Result<(), String> {
    let raw: Vec<i64> = match &tensor.raw_data {
        Some(raw) => raw.borrow().iter().map(|&byte| byte.into()).collect(),
        None => tensor.int32_data.iter().map(|&value| value.into()).collect(),
    };
    let count = tensor.dims.iter().product::<i64>();
    if usize::try_from(count).ok() != Some(raw.len()) {
        return Err("zero points that are not in the file".to_owned());
    }
    match tensor.data_type {
        Some(DataType::INT8) if raw.iter().all(|&point| point == 0) => Ok(()),
        Some(DataType::INT8) => Err("signed weights with other zero points than 0".to_owned()),
        Some(DataType::UINT8) if raw.len() == 1 => Ok(()),
        Some(DataType::UINT8) => Err(format!("unsigned weights with {} zero points", raw.len())),
        _ => Err("zero points of another type".to_owned()),
    }
}
