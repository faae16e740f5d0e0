//! Model and vector file formats read and written by Embral.

mod weights;

pub use weights::Weights;
