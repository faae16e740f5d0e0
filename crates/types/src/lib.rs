//! Plain data that every crate of Embral speaks: packed batches, embeddings, the names of choices, tensors as they lie in a
//! file, and the error, with the guard that makes one of a panic in foreign code.

mod batch;
mod choice;
mod embeddings;
mod error;
mod guard;
mod tensor;

pub use batch::Batch;
pub use choice::{Activation, Mask, NormKind, Pooling, Precision};
pub use embeddings::Embeddings;
pub use error::{Error, ErrorKind, Result};
pub use guard::{guarded, silence_guarded};
pub use tensor::{Dtype, Tensor};
