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
mod torch;
mod weights;

pub use finite::check_finite;
pub use mmap::FileBytes;
pub use torch::TorchFile;
pub use weights::Weights;

/// Opens a layer that lies in a file of its own: safetensors or, where the name ends with `.pt`, as PyTorch saves a state dict.
pub fn open_layer(path: &std::path::Path) -> embral_types::Result<Box<dyn Weights>> {
    match path.extension().is_some_and(|end| end.eq_ignore_ascii_case("pt")) {
        true => Ok(Box::new(TorchFile::open(path)?)),
        false => safetensors::open(path),
    }
}
