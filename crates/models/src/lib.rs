//! Model configurations to Blueprints for Embral.

mod blueprint;
mod catalogue;
mod folder;
mod head;
mod names;
mod static_model;

pub use blueprint::{AttentionSpec, Blueprint, EmbeddingSpec, MlpSpec, NormPlace, NormSpec, Positions, RopeSpec};
pub use catalogue::Entry;
pub use folder::{ModelFolder, Network, TokenizerFiles};
pub use head::{Dense, Head};
pub use names::{Role, WeightNames};
pub use static_model::{StaticLayout, StaticSpec};
