//! Named tensors of a model, whatever file they lie in.

use embral_types::{Result, Tensor};
use std::path::Path;

/// The tensors of one model by name.
pub trait Weights: Send + Sync {
    /// The tensor called `name`. [`embral_types::ErrorKind::Mismatch`] where there is none, naming the file.
    fn get(&self, name: &str) -> Result<Tensor<'_>>;

    /// Whether there is a tensor called `name`.
    fn contains(&self, name: &str) -> bool;

    /// The number of values of the tensor called `name`, and the bytes they take where they are stored.
    fn size(&self, name: &str) -> Result<(usize, usize)> {
        let tensor = self.get(name)?;
        Ok((tensor.len(), tensor.bytes().len()))
    }

    /// The bytes of the tensor called `name` as they are stored: the tensor itself, or bytes that have to be decoded.
    fn stored(&self, name: &str) -> Result<Tensor<'_>> {
        self.get(name)
    }

    /// Every name, sorted.
    fn names(&self) -> Vec<String>;

    /// The file for error messages: the single file, or the index of a sharded model.
    fn file(&self) -> &Path;
}
