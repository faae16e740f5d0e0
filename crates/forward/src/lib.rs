//! The forward pass, written once: a [`Blueprint`](embral_models::Blueprint) executed on any
//! [`Backend`](embral_backend::Backend).
//!
//! Padding does not exist here: the rows of a batch are the tokens of its sequences, and every linear layer is one product
//! over all of them.

mod distance;
mod head;
mod load;
mod precisions;
mod static_table;
mod terms;
mod transformer;

pub use head::Head;
pub use precisions::{Precisions, Site};
pub use static_table::StaticTable;
pub use terms::Terms;
pub use transformer::Transformer;
