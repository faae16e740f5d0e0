//! Measuring what a model is worth: similarity of sentences, and retrieval.

mod correlation;
mod retrieval;
mod sts;

pub use correlation::spearman;
pub use retrieval::Retrieval;
pub use sts::Sts;

use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{fs, path::Path};

/// What turns texts into vectors of length 1.
pub type Embed<'a> = &'a dyn Fn(&[String]) -> Result<Embeddings>;

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::io("cannot read", path, e))
}

fn field<'a>(columns: &[&'a str], index: usize, file: &Path, number: usize) -> Result<&'a str> {
    columns.get(index).copied().ok_or_else(|| {
        let message = format!("line {}: expected at least {} columns, found {}", number + 1, index + 1, columns.len());
        Error::new(ErrorKind::Malformed, message).in_file(file)
    })
}
