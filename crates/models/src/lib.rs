//! Model folders to plain data: what a network computes ([`Blueprint`]), where its tensors are ([`WeightNames`]), and what is
//! around it ([`ModelFolder`]: pooling, heads, limits, prompts). Nothing is computed here, and nothing is allocated by a number of
//! a configuration file before that number is checked.

mod arch;
mod blueprint;
pub mod catalogue;
mod config;
mod folder;
mod gguf;
mod head;
mod modules;
mod names;
mod onnx;
mod pooling;
mod registry;
mod rope;
mod shapes;
mod static_model;
mod task;

pub use blueprint::{
    AttentionSpec, Blueprint, DisentangledSpec, EmbeddingSpec, ExpertsSpec, MlpSpec, NormPlace, NormSpec, PositionBias,
    Positions, QkNorm, View,
};
pub use catalogue::Entry;
pub use folder::{ModelFolder, Network, Prompts, TokenizerFiles};
pub use gguf::is_gguf;
pub use head::{Dense, Head, LAYER_NORM_EPS, parse_dense};
pub use modules::{Module, ModuleKind, parse_modules};
pub use names::{Role, WeightNames};
pub use onnx::{GraphSpec, OnnxChoice, is_onnx};
pub use pooling::{PoolingSpec, parse_pooling};
pub use registry::{ARCHITECTURES, Architecture, parse_config};
pub use rope::{RopeScaling, RopeSpec};
pub use shapes::check_shapes;
pub use static_model::{StaticLayout, StaticSpec};
pub use task::{
    ClassifierSpec, Expansion, HeadLayer, MaxSim, MlmHead, MultiVectorSpec, Outputs, RoleSpec, Scores, SparseSpec,
    Task, TermPooling, YesNoSpec,
};
