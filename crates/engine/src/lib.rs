//! Text embeddings, right and fast, on the hardware at hand.
//!
//! ```
//! # fn main() -> embral::Result<()> {
//! let embedder = embral::Embedder::open_default()?;
//! let rows = embedder.embed_batch(&["a cat sat on the mat", "a kitten rests on a rug", "interest rates rose"])?;
//! let scores = embral::similarity(&rows, &rows);
//! assert!(scores[1] > scores[2]);
//! # Ok(())
//! # }
//! ```
//!
//! [`Embedder::open`] takes a folder, a name, an `org/name` of the Hugging Face hub or the address of a server and gives the vectors that
//! sentence-transformers gives. The vector of a text is bitwise the same alone, in any batch, in any order and at any thread
//! count. The same holds of what other models give: [`Reranker`] and [`Classifier`] scores, [`SparseEmbedder`] weights of vocabulary
//! entries, [`MultiVectorEmbedder`] one vector a token, [`JointEmbedder`] several of these at once. Nothing else is promised to stay as it is between minor versions: the crates underneath are details.

pub mod base64;
pub mod cache;
pub mod chunk;
mod classifier;
mod config;
pub mod default_model;
mod device;
mod embedder;
mod encoder;
mod heads;
mod info;
pub mod inspect;
mod joint;
pub mod memory;
mod multi_vector;
#[cfg(feature = "onnx")]
mod onnx;
mod open;
mod packed;
mod pairs;
#[cfg(feature = "remote")]
pub mod pool;
mod precision;
mod profile;
mod prompt;
pub mod quantize;
pub mod queue;
mod ranking;
#[cfg(feature = "remote")]
pub mod remote;
mod reranker;
pub mod serving;
mod session;
mod similarity;
mod sparse;
pub mod store;
mod token_model;
pub mod verify;
mod windows;

pub use classifier::{Classifier, Label};
pub use config::{Config, Truncation};
pub use device::{CpuInfo, cpu};
pub use embedder::Embedder;
pub use embral_models::{OnnxChoice, Scores, Task, catalogue};
pub use embral_types::{Embeddings, Error, ErrorKind, Pooling, Precision, Result};
pub use info::{GraphInfo, ModelInfo};
pub use joint::{Joint, JointEmbedder, JointEmbeddings};
pub use multi_vector::{MultiVectorEmbedder, max_sim};
pub use pairs::task;
pub use precision::{Part, PartPrecision};
pub use profile::{Profile, peak_rss_bytes};
pub use prompt::Prompt;
pub use reranker::{Ranked, Reranker};
pub use similarity::{Similarity, similarity, top_k};
pub use sparse::{SparseEmbedder, SparseEmbedding};

/// Compiles and runs the Rust of README.md.
#[cfg(all(doctest, feature = "default-model"))]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// Compiles the Rust of docs/onnx.md.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/onnx.md")]
pub struct OnnxPage;

/// Compiles the Rust of docs/remote.md.
#[cfg(all(doctest, feature = "remote"))]
#[doc = include_str!("../../../docs/remote.md")]
pub struct RemotePage;

/// Compiles the Rust of docs/pool.md.
#[cfg(all(doctest, feature = "remote"))]
#[doc = include_str!("../../../docs/pool.md")]
pub struct PoolPage;
