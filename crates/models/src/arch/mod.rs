//! One file an architecture: its configuration keys and its tensor names.

pub(crate) mod bert;
pub(crate) mod qwen3;
