//! Writing a safetensors file.

use embral_types::{Dtype, Error, ErrorKind, Result, Tensor};
use safetensors::tensor::{self, View};
use std::{borrow::Cow, fs, path::Path};

struct Writable<'a>(&'a Tensor<'a>);

impl View for Writable<'_> {
    fn dtype(&self) -> tensor::Dtype {
        match self.0.dtype() {
            Dtype::F64 => tensor::Dtype::F64,
            Dtype::F32 => tensor::Dtype::F32,
            Dtype::F16 => tensor::Dtype::F16,
            Dtype::Bf16 => tensor::Dtype::BF16,
            Dtype::I64 => tensor::Dtype::I64,
            Dtype::I32 => tensor::Dtype::I32,
            Dtype::I8 => tensor::Dtype::I8,
            Dtype::U8 => tensor::Dtype::U8,
            other => unreachable!("every stored format is written, and {other} is none"),
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.bytes())
    }

    fn data_len(&self) -> usize {
        self.0.bytes().len()
    }
}

/// Writes named tensors to a file. The file is complete or, after an error or a kill, not there: it is written beside its place and
/// renamed. The bytes depend on nothing but names and tensors. Needs memory for a copy of the tensors.
pub fn write(path: &Path, tensors: &[(&str, Tensor<'_>)]) -> Result<()> {
    let views = tensors.iter().map(|(name, tensor)| (*name, Writable(tensor)));
    let bytes = safetensors::serialize(views, None).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, format!("cannot be written as safetensors: {e}")).in_file(path)
    })?;
    let unfinished = path.with_extension("safetensors.part");
    let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, path));
    written.map_err(|e| {
        // Nothing more can be done where the remains cannot be removed; the first error is the one to report.
        let _ = fs::remove_file(&unfinished);
        Error::io("cannot write", path, e)
    })
}
