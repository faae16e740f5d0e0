//! Plain data that every crate of Embral speaks: packed batches, embeddings, the names of choices, tensors as they lie in a
//! file, and the error.

mod batch;
mod choice;
mod embeddings;
mod error;
mod tensor;

pub use batch::Batch;
pub use choice::{Activation, Mask, NormKind, Pooling, Precision};
pub use embeddings::Embeddings;
pub use error::{Error, ErrorKind, Result};
pub use tensor::{Dtype, Tensor};
