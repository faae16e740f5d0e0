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
mod weights;

pub use finite::check_finite;
pub use mmap::FileBytes;
pub use weights::Weights;
