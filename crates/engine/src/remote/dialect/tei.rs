//! text-embeddings-inference: `POST /embed`.

use super::{Answer, Ask, Dialect, Row, Wrong, json, plain};
use crate::Truncation;
use serde_json::{Value, json};

pub(super) struct Tei;

impl Dialect for Tei {
    fn path(&self, _: bool) -> &'static str {
        "/embed"
    }

    fn batch(&self) -> usize {
        32
    }

    fn request(&self, ask: &Ask<'_>) -> Value {
        let (truncate, direction) = match ask.truncation {
            Truncation::Right => (true, "Right"),
            Truncation::Left => (true, "Left"),
            Truncation::Error => (false, "Right"),
        };
        let mut body = json!({
            "inputs": ask.texts,
            "truncate": truncate,
            "truncation_direction": direction,
            "normalize": ask.normalize.unwrap_or(true),
        });
        if let Some(dims) = ask.dims {
            body["dimensions"] = dims.into();
        }
        if let Some(prompt) = ask.prompt {
            body["prompt_name"] = prompt.into();
        }
        body
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, Wrong> {
        Ok(Answer { rows: plain(json::<Vec<Row>>(body)?), tokens: None })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};

    #[test]
    fn the_request_says_all_that_the_server_would_else_choose() {
        let texts = ["a".into()];
        let ask = tests::ask(&texts);
        assert_eq!(
            Tei.request(&ask),
            json!({ "inputs": ["a"], "truncate": true, "truncation_direction": "Right", "normalize": true })
        );
        let ask =
            Ask { truncation: Truncation::Error, normalize: Some(false), dims: Some(8), prompt: Some("query"), ..ask };
        assert_eq!(
            Tei.request(&ask),
            json!({ "inputs": ["a"], "truncate": false, "truncation_direction": "Right", "normalize": false,
                "dimensions": 8, "prompt_name": "query" })
        );
        assert_eq!(Tei.answer(b"[[1,2]]").unwrap(), Answer { rows: vec![vec![1.0, 2.0]], tokens: None });
    }
}
