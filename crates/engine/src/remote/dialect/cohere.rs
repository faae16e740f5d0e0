//! Cohere's `POST /v2/embed`.

use super::{Answer, Ask, Dialect, Row, Wrong, json, plain};
use crate::Truncation;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) struct Cohere;

/// What the texts are for, where no prompt is named; models of the third version and later want it said.
const DOCUMENT: &str = "search_document";

#[derive(Deserialize)]
struct Body {
    embeddings: Embeddings,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Embeddings {
    float: Vec<Row>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Billed>,
}

#[derive(Deserialize)]
struct Billed {
    /// A whole number, which some servers write as a float.
    input_tokens: Option<f64>,
}

impl Dialect for Cohere {
    fn path(&self, bare: bool) -> &'static str {
        if bare { "/v2/embed" } else { "/embed" }
    }

    fn batch(&self) -> usize {
        96
    }

    fn request(&self, ask: &Ask<'_>) -> Value {
        let truncate = match ask.truncation {
            Truncation::Right => "END",
            Truncation::Left => "START",
            Truncation::Error => "NONE",
        };
        let input_type = match ask.prompt {
            None | Some("document" | "passage") => DOCUMENT,
            Some("query") => "search_query",
            Some(other) => other,
        };
        let mut body = json!({
            "model": ask.model,
            "texts": ask.texts,
            "input_type": input_type,
            "embedding_types": ["float"],
            "truncate": truncate,
        });
        if let Some(dims) = ask.dims {
            body["output_dimension"] = dims.into();
        }
        body
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, Wrong> {
        let body: Body = json(body)?;
        let tokens = body.meta.and_then(|m| m.billed_units).and_then(|b| b.input_tokens);
        Ok(Answer { rows: plain(body.embeddings.float), tokens: tokens.map(|n| n as u64) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};

    #[test]
    fn prompts_are_input_types() {
        let texts = ["a".into()];
        let of = |prompt| Cohere.request(&Ask { prompt, ..tests::ask(&texts) })["input_type"].clone();
        assert_eq!(of(None), "search_document");
        assert_eq!(of(Some("query")), "search_query");
        assert_eq!(of(Some("document")), "search_document");
        assert_eq!(of(Some("clustering")), "clustering");
    }

    #[test]
    fn request_and_answer_are_those_of_v2() {
        let texts = ["a".into()];
        let ask = Ask { dims: Some(256), truncation: Truncation::Left, ..tests::ask(&texts) };
        let expected = json!({ "model": "m", "texts": ["a"], "input_type": "search_document",
            "embedding_types": ["float"], "truncate": "START", "output_dimension": 256 });
        assert_eq!(Cohere.request(&ask), expected);
        let body = br#"{"id":"x","embeddings":{"float":[[1,2]]},"texts":["a"],
            "meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":3.0}}}"#;
        assert_eq!(Cohere.answer(body).unwrap(), Answer { rows: vec![vec![1.0, 2.0]], tokens: Some(3) });
    }
}
