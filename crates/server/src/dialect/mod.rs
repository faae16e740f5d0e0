//! The APIs, a file each, over one pipeline.

pub(crate) mod cohere;
mod input;
pub(crate) mod native;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod operation;
pub(crate) mod rerank;
pub(crate) mod score;
pub(crate) mod tei;

use crate::front::Dialect;

pub(crate) use input::Inputs;

/// The dialect that a path is of, for failures before any handler has it.
pub(crate) fn of_path(path: &str) -> &'static dyn Dialect {
    match path {
        path if path.starts_with("/embral/") => &native::Native,
        path if path.starts_with("/api/") => &ollama::Ollama,
        path if cohere::PATHS.contains(&path) => &cohere::Cohere,
        path if tei::PATHS.contains(&path) || path == "/rerank" => &tei::Tei,
        path if score::PATHS.contains(&path) => &openai::OpenAi,
        path if path.starts_with("/v1/embeddings") || path.starts_with("/v1/models") => &openai::OpenAi,
        _ => &native::Native,
    }
}
