//! What may be chosen about the requests to a server.

use std::time::Duration;

/// How a server is asked. Each can be a parameter of the address, which then decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Texts of a request at most (`batch`); `None` is what such servers take.
    pub batch_texts: Option<usize>,
    /// Bytes of text of a request at most (`batch_bytes`); a longer text goes alone.
    pub batch_bytes: usize,
    /// Requests under way at once, of all calls of an embedder together (`concurrency`).
    pub concurrency: usize,
    /// Requests in any minute (`rpm`).
    pub requests_per_minute: Option<u64>,
    /// Tokens in any minute (`tpm`), reckoned from the bytes of the texts and set right by what the server says it was.
    pub tokens_per_minute: Option<u64>,
    /// How often a request is tried again (`retries`) that met a busy or broken server.
    pub retries: u32,
    /// How long a connection may take to come about (`connect`, in seconds); it is a part of the try.
    pub connect: Duration,
    /// How long one try may take (`timeout`, in seconds).
    pub timeout: Duration,
    /// How long a request may take with all of its tries (`deadline`, in seconds).
    pub deadline: Duration,
    /// The environment variable of the API key (`key_env`); `None` is `EMBRAL_API_KEY`, and for the hosts of OpenAI and Cohere theirs.
    pub key_variable: Option<String>,
    /// Names of prompts that a TEI-type server has (`prompts`, with commas between): it does not tell.
    pub prompts: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_texts: None,
            batch_bytes: 400_000,
            concurrency: 4,
            requests_per_minute: None,
            tokens_per_minute: None,
            retries: 5,
            connect: Duration::from_secs(20),
            timeout: Duration::from_secs(60),
            deadline: Duration::from_secs(300),
            key_variable: None,
            prompts: Vec::new(),
        }
    }
}
