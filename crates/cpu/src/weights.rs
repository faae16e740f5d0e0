//! Weights in the form the kernels read.

use crate::PackedWeights;
use embral_backend::Dense;
use embral_kernels::op::{
    bag,
    gemm::{PackedMatrix, Precision},
    norm,
};
use embral_types::{Dtype, Error, ErrorKind, NormKind, Result, Tensor};

/// A linear layer, packed into panels.
pub struct Linear {
    pub(crate) matrix: PackedMatrix,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Linear {
    /// Bytes of a layer of `outputs` of `inputs`, gated where it is two of them, without its biases.
    pub fn bytes(precision: embral_types::Precision, outputs: usize, inputs: usize, gated: bool) -> usize {
        PackedMatrix::packed_bytes(crate::ops::numbers(precision), (outputs, inputs), gated)
    }

    pub(crate) fn side_by_side(
        parts: &[Dense<'_>],
        precision: Precision,
        packed: Option<&PackedWeights>,
    ) -> Result<Self> {
        let [_, inputs] = matrix_shape(&parts[0].weight)?;
        let mut outputs = 0;
        for part in parts {
            let [n, k] = matrix_shape(&part.weight)?;
            if k != inputs {
                return Err(Error::new(ErrorKind::Mismatch, format!("expected {inputs} inputs, found {k}")));
            }
            outputs += n;
        }
        let bias = biases(parts)?;
        let pack = || {
            let mut weights = Vec::with_capacity(outputs * inputs);
            parts.iter().for_each(|part| weights.append(&mut part.weight.to_f32()));
            PackedMatrix::pack(precision, outputs, inputs, &weights)
        };
        let matrix = match packed.filter(|p| p.precision() == precision) {
            Some(packed) => packed.matrix(parts, (outputs, inputs), false, pack),
            None => pack(),
        };
        Ok(Self { matrix, bias })
    }

    pub(crate) fn gated(
        gate: &Dense<'_>,
        up: &Dense<'_>,
        precision: Precision,
        packed: Option<&PackedWeights>,
    ) -> Result<Self> {
        let [n, k] = matrix_shape(&gate.weight)?;
        if matrix_shape(&up.weight)? != [n, k] {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("gate and up differ: {:?} and {:?}", gate.weight.shape(), up.weight.shape()),
            ));
        }
        let parts = [gate.clone(), up.clone()];
        let bias = biases(&parts)?;
        let pack = || PackedMatrix::pack_gated(precision, n, k, &gate.weight.to_f32(), &up.weight.to_f32());
        let matrix = match packed.filter(|p| p.precision() == precision) {
            Some(packed) => packed.matrix(&parts, (n, k), true, pack),
            None => pack(),
        };
        Ok(Self { matrix, bias })
    }
}

/// The biases one after the other; none where no part has one.
fn biases(parts: &[Dense<'_>]) -> Result<Option<Vec<f32>>> {
    if parts.iter().all(|p| p.bias.is_none()) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for part in parts {
        let n = part.weight.shape()[0];
        match &part.bias {
            Some(b) if b.len() == n => all.append(&mut b.to_f32()),
            Some(b) => {
                return Err(Error::new(ErrorKind::Mismatch, format!("expected {n} biases, found {}", b.len())));
            }
            None => all.resize(all.len() + n, 0.0),
        }
    }
    Ok(Some(all))
}

fn matrix_shape(tensor: &Tensor<'_>) -> Result<[usize; 2]> {
    tensor
        .shape()
        .try_into()
        .map_err(|_| Error::new(ErrorKind::Mismatch, format!("expected a matrix, found shape {:?}", tensor.shape())))
}

/// The parameters of a norm.
pub struct Norm {
    kind: NormKind,
    gamma: Vec<f32>,
    beta: Option<Vec<f32>>,
    eps: f32,
}

impl Norm {
    pub(crate) fn new(kind: NormKind, gamma: &Tensor<'_>, beta: Option<&Tensor<'_>>, eps: f32) -> Result<Self> {
        if let Some(beta) = beta
            && beta.len() != gamma.len()
        {
            let message = format!("expected a shift of {} values, found {}", gamma.len(), beta.len());
            return Err(Error::new(ErrorKind::Mismatch, message));
        }
        Ok(Self { kind, gamma: gamma.to_f32(), beta: beta.map(Tensor::to_f32), eps })
    }

    pub(crate) fn view(&self) -> norm::Norm<'_> {
        let kind = match self.kind {
            NormKind::Layer => norm::NormKind::Layer,
            NormKind::Rms => norm::NormKind::Rms,
        };
        norm::Norm { kind, gamma: &self.gamma, beta: self.beta.as_deref(), eps: self.eps }
    }
}

/// A lookup table, `[rows, width]`.
pub struct Table {
    pub(crate) data: Vec<f32>,
}

impl Table {
    pub(crate) fn new(table: &Tensor<'_>) -> Result<Self> {
        matrix_shape(table)?;
        Ok(Self { data: table.to_f32() })
    }
}

/// The rows of a static model, in the format they are stored in where a kernel reads it.
pub struct Bag {
    rows: Rows,
    width: usize,
    weights: Option<Vec<f32>>,
    mapping: Option<Vec<u32>>,
}

enum Rows {
    F32(Vec<f32>),
    F16(Vec<u16>),
    I8(Vec<i8>),
}

impl Bag {
    pub(crate) fn new(table: &Tensor<'_>, weights: Option<&Tensor<'_>>, mapping: Option<&Tensor<'_>>) -> Result<Self> {
        let [count, width] = matrix_shape(table)?;
        let rows = match table.dtype() {
            Dtype::I8 => Rows::I8(table.bytes().iter().map(|&b| b as i8).collect()),
            Dtype::F16 => Rows::F16(table.bytes().as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b)).collect()),
            _ => Rows::F32(table.to_f32()),
        };
        let mapping = mapping.map(|m| rows_of_ids(m, count)).transpose()?;
        let ids = mapping.as_ref().map_or(count, Vec::len);
        if let Some(w) = weights
            && w.len() != ids
        {
            return Err(Error::new(ErrorKind::Mismatch, format!("expected {ids} weights, found {}", w.len())));
        }
        Ok(Self { rows, width, weights: weights.map(Tensor::to_f32), mapping })
    }

    pub(crate) fn view(&self) -> bag::Bag<'_> {
        let table = match &self.rows {
            Rows::F32(v) => bag::Table::F32(v),
            Rows::F16(v) => bag::Table::F16(v),
            Rows::I8(v) => bag::Table::I8(v),
        };
        bag::Bag { table, width: self.width, weights: self.weights.as_deref(), mapping: self.mapping.as_deref() }
    }
}

/// The row of each id, each below `count`.
fn rows_of_ids(mapping: &Tensor<'_>, count: usize) -> Result<Vec<u32>> {
    let values: Vec<i64> = match mapping.dtype() {
        Dtype::I64 => mapping.bytes().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
        Dtype::I32 => mapping.bytes().as_chunks::<4>().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect(),
        other => {
            return Err(Error::new(ErrorKind::Mismatch, format!("expected a mapping of I32 or I64, found {other}")));
        }
    };
    values
        .iter()
        .map(|&v| u32::try_from(v).ok().filter(|&v| (v as usize) < count))
        .collect::<Option<Vec<u32>>>()
        .ok_or_else(|| {
            Error::new(ErrorKind::Mismatch, format!("the mapping names a row outside the table's {count} rows"))
        })
}
