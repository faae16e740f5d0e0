//! Ollama's `POST /api/embed`.

use super::{Answer, Ask, Dialect, Row, Wrong, json, plain};
use crate::Truncation;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) struct Ollama;

#[derive(Deserialize)]
struct Body {
    embeddings: Vec<Row>,
    prompt_eval_count: Option<u64>,
}

impl Dialect for Ollama {
    fn path(&self, _: bool) -> &'static str {
        "/api/embed"
    }

    fn batch(&self) -> usize {
        64
    }

    fn request(&self, ask: &Ask<'_>) -> Value {
        let truncate = ask.truncation != Truncation::Error;
        let mut body = json!({ "model": ask.model, "input": ask.texts, "truncate": truncate });
        if let Some(dims) = ask.dims {
            body["dimensions"] = dims.into();
        }
        body
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, Wrong> {
        let body: Body = json(body)?;
        Ok(Answer { rows: plain(body.embeddings), tokens: body.prompt_eval_count })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};

    #[test]
    fn request_and_answer_are_those_of_api_embed() {
        let texts = ["a".into(), "b".into()];
        let ask = Ask { dims: Some(8), ..tests::ask(&texts) };
        let expected = json!({ "model": "m", "input": ["a", "b"], "truncate": true, "dimensions": 8 });
        assert_eq!(Ollama.request(&ask), expected);
        let body =
            br#"{"model":"m","embeddings":[[1,2],[3,4]],"total_duration":14,"load_duration":1,"prompt_eval_count":8}"#;
        let expected = Answer { rows: vec![vec![1.0, 2.0], vec![3.0, 4.0]], tokens: Some(8) };
        assert_eq!(Ollama.answer(body).unwrap(), expected);
    }
}
