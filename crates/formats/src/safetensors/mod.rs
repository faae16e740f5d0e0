//! [safetensors](https://github.com/huggingface/safetensors): eight bytes of header length, a JSON header, the values.
//!
//! The header is read here rather than by the `safetensors` crate because the errors of that crate name neither the tensor nor the
//! sizes, and because it lets the last of two tensors with one name win. The tests hold both readers to the same verdicts. Files
//! are written by the crate.

mod file;
mod header;
mod sharded;
mod writer;

pub use file::SafetensorsFile;
pub use sharded::{ShardIndex, ShardedSafetensors};
pub use writer::write;

use crate::Weights;
use embral_types::Result;
use std::path::Path;

/// Opens a model's weights: one `.safetensors` file, or the shards of a `.safetensors.index.json`.
pub fn open(path: &Path) -> Result<Box<dyn Weights>> {
    let sharded = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    Ok(if sharded { Box::new(ShardedSafetensors::open(path)?) } else { Box::new(SafetensorsFile::open(path)?) })
}
