//! One file an architecture: its configuration keys and its tensor names.

pub(crate) mod bert;
pub(crate) mod deberta_v2;
mod decoder;
pub(crate) mod distilbert;
pub(crate) mod gemma3;
pub(crate) mod gte;
pub(crate) mod jina_bert;
pub(crate) mod llama;
pub(crate) mod mistral;
pub(crate) mod modernbert;
pub(crate) mod mpnet;
pub(crate) mod nomic_bert;
pub(crate) mod qwen2;
pub(crate) mod qwen3;
pub(crate) mod roberta;
