//! GGUF: metadata and tensors of a model in one file, weights in blocks of few bits.

mod blocks;
mod header;

pub use blocks::Format;
pub use header::{List, Value};

use crate::{FileBytes, Weights};
use embral_types::{Dtype, Error, ErrorKind, Result, Tensor};
use header::Header;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// One GGUF file, mapped. Floats and integers are views of it; blocks are decoded to f32 when they are asked for.
pub struct GgufFile {
    path: PathBuf,
    bytes: FileBytes,
    header: Header,
}

impl GgufFile {
    /// Maps a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_bytes(path, FileBytes::open(path)?)
    }

    /// Reads the header of a file that is in memory; `name` stands in errors.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: impl Into<FileBytes>) -> Result<Self> {
        let (path, bytes) = (name.into(), bytes.into());
        let header = header::parse(&bytes).map_err(|e| e.in_file(&path))?;
        Ok(Self { path, bytes, header })
    }

    /// What the file says of the model, as `general.architecture`.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.header.metadata
    }

    /// How the values of a tensor are stored.
    pub fn format(&self, name: &str) -> Option<Format> {
        self.header.tensors.get(name)?.format.ok()
    }

    /// The length of each axis of a tensor, outermost first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.header.tensors.get(name)?.shape)
    }

    fn entry(&self, name: &str) -> Result<&header::Entry> {
        let missing = || Error::new(ErrorKind::Mismatch, "the tensor is missing").in_file(&self.path).in_tensor(name);
        self.header.tensors.get(name).ok_or_else(missing)
    }
}

impl Weights for GgufFile {
    fn get(&self, name: &str) -> Result<Tensor<'_>> {
        let entry = self.entry(name)?;
        let format = entry.format.map_err(|code| {
            let known = Format::ALL.map(Format::name).join(", ");
            let found = header::format_name(code);
            Error::new(ErrorKind::Unsupported, format!("expected one of {known}, found {found}"))
                .in_file(&self.path)
                .in_tensor(name)
                .hint("take a file of another quantisation, such as Q8_0 or Q4_K_M")
        })?;
        let bytes = &self.bytes[entry.range.clone()];
        Ok(match format.dtype() {
            Some(dtype) => Tensor::new(dtype, entry.shape.clone(), bytes),
            None => Tensor::new(Dtype::F32, entry.shape.clone(), format.decode(bytes)),
        })
    }

    fn contains(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    fn size(&self, name: &str) -> Result<(usize, usize)> {
        let entry = self.entry(name)?;
        Ok((entry.shape.iter().product(), entry.range.len()))
    }

    fn stored(&self, name: &str) -> Result<Tensor<'_>> {
        let bytes = &self.bytes[self.entry(name)?.range.clone()];
        Ok(Tensor::new(Dtype::U8, vec![bytes.len()], bytes))
    }

    fn names(&self) -> Vec<String> {
        self.header.tensors.keys().cloned().collect()
    }

    fn file(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GgufFile({}, {} tensors)", self.path.display(), self.header.tensors.len())
    }
}
