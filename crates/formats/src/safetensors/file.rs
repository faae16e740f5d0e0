//! One safetensors file.

use super::header::{self, Header};
use crate::{FileBytes, Weights};
use embral_types::{Error, ErrorKind, Result, Tensor};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// One safetensors file, mapped; tensors are views of it.
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: FileBytes,
    header: Header,
}

impl SafetensorsFile {
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

    /// What the writer said about the file, as `format: pt`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }
}

impl Weights for SafetensorsFile {
    fn get(&self, name: &str) -> Result<Tensor<'_>> {
        let Some(entry) = self.header.tensors.get(name) else {
            return Err(Error::new(ErrorKind::Mismatch, "the tensor is missing").in_file(&self.path).in_tensor(name));
        };
        let dtype = entry.dtype.as_ref().map_err(|found| {
            Error::new(
                ErrorKind::Unsupported,
                format!("expected F64, F32, F16, BF16, I64, I32, I8 or U8, found values in {found}"),
            )
            .in_file(&self.path)
            .in_tensor(name)
        })?;
        Ok(Tensor::new(*dtype, entry.shape.clone(), &self.bytes[entry.range.clone()]))
    }

    fn contains(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.header.tensors.keys().cloned().collect()
    }

    fn file(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for SafetensorsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SafetensorsFile({}, {} tensors)", self.path.display(), self.header.tensors.len())
    }
}
