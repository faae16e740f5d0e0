//! The kinds of servers.

use std::fmt;

/// How servers are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `POST /v1/embeddings`, of OpenAI and most others.
    OpenAi,
    /// `POST /embed` of text-embeddings-inference.
    Tei,
    /// `POST /api/embed` of Ollama.
    Ollama,
    /// `POST /v2/embed` of Cohere.
    Cohere,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Tei, Self::Ollama, Self::Cohere];

    /// The name in an address.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Tei => "tei",
            Self::Ollama => "ollama",
            Self::Cohere => "cohere",
        }
    }

    /// Hosts that are of this kind.
    pub(super) fn hosts(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["api.openai.com"],
            Self::Cohere => &["api.cohere.com", "api.cohere.ai"],
            Self::Tei | Self::Ollama => &[],
        }
    }

    /// Variables with a key for [`Kind::hosts`]. Nobody else is sent it.
    pub(super) fn key_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_API_KEY"],
            Self::Cohere => &["CO_API_KEY", "COHERE_API_KEY"],
            Self::Tei | Self::Ollama => &[],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
