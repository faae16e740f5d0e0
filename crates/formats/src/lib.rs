//! Model and vector files: hostile bytes in, named and typed views out, and back.
//!
//! Every reader has an entry that takes bytes rather than a path; none of them panics or allocates more than a small multiple of
//! what it is given, whatever the bytes are.

mod finite;
pub mod gguf;
mod mmap;
pub mod npy;
pub mod packed;
pub mod safetensors;
mod sharded;
mod torch;
mod weights;

pub use finite::check_finite;
pub use mmap::FileBytes;
pub use sharded::{ShardIndex, Sharded};
pub use torch::TorchFile;
pub use weights::Weights;

use embral_types::Result;
use std::path::Path;

/// Opens weights: a safetensors file, a file as PyTorch saves a state dict (`.bin`, `.pt`), or the shards of an index of either
/// (`.index.json`).
///
/// # Errors
/// Where a file is not there or is damaged, or an index names what is not in its shards.
pub fn open(path: &Path) -> Result<Box<dyn Weights>> {
    let sharded = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    if sharded { Ok(Box::new(Sharded::open(path)?)) } else { open_file(path) }
}

/// One file of weights.
fn open_file(path: &Path) -> Result<Box<dyn Weights>> {
    let torch = |end: &std::ffi::OsStr| ["bin", "pt"].iter().any(|torch| end.eq_ignore_ascii_case(torch));
    match path.extension().is_some_and(torch) {
        true => Ok(Box::new(TorchFile::open(path)?)),
        false => Ok(Box::new(safetensors::SafetensorsFile::open(path)?)),
    }
}
