//! OpenAI's `POST /v1/embeddings`, which vLLM, llama.cpp, LM Studio, Infinity and most gateways speak too.

use super::{Answer, Ask, Dialect, Row, Wrong, json};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) struct OpenAi;

#[derive(Deserialize)]
struct Body {
    data: Vec<Item>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Row,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

impl Dialect for OpenAi {
    fn path(&self, bare: bool) -> &'static str {
        if bare { "/v1/embeddings" } else { "/embeddings" }
    }

    fn batch(&self) -> usize {
        256
    }

    fn request(&self, ask: &Ask<'_>) -> Value {
        let format = if ask.base64 { "base64" } else { "float" };
        let mut body = json!({ "input": ask.texts, "model": ask.model, "encoding_format": format });
        if let Some(dims) = ask.dims {
            body["dimensions"] = dims.into();
        }
        body
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, Wrong> {
        let Body { data, usage } = json(body)?;
        let tokens = usage.and_then(|u| u.prompt_tokens.or(u.total_tokens));
        // Some servers leave the index out; then the order is that of the texts.
        if data.iter().all(|item| item.index.is_none()) {
            return Ok(Answer { rows: data.into_iter().map(|item| item.embedding.0).collect(), tokens });
        }
        let count = data.len();
        let mut rows: Vec<Option<Vec<f32>>> = vec![None; count];
        for item in data {
            let index = item.index.ok_or_else(|| "some vectors have an index and some have none".to_owned())?;
            let place = rows
                .get_mut(index)
                .ok_or_else(|| format!("a vector has index {index} among {count}, expected 0 to {}", count - 1))?;
            if place.replace(item.embedding.0).is_some() {
                return Err(format!("two vectors have index {index}, expected one each").into());
            }
        }
        Ok(Answer { rows: rows.into_iter().flatten().collect(), tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};
    use crate::remote::Kind;

    #[test]
    fn base64_is_asked_for_and_dimensions_only_where_they_are_wanted() {
        let texts = ["a".into(), "b".into()];
        let ask = tests::ask(&texts);
        assert_eq!(OpenAi.request(&ask), json!({ "input": ["a", "b"], "model": "m", "encoding_format": "base64" }));
        let ask = Ask { dims: Some(64), base64: false, ..ask };
        assert_eq!(
            OpenAi.request(&ask),
            json!({ "input": ["a", "b"], "model": "m", "encoding_format": "float", "dimensions": 64 })
        );
    }

    #[test]
    fn vectors_come_in_the_order_of_their_index() {
        let body = br#"{"object":"list","data":[{"object":"embedding","index":1,"embedding":[3,4]},
            {"object":"embedding","index":0,"embedding":"AACAPwAAAEA="}],"usage":{"prompt_tokens":5,"total_tokens":6}}"#;
        let expected = Answer { rows: vec![vec![1.0, 2.0], vec![3.0, 4.0]], tokens: Some(5) };
        assert_eq!(OpenAi.answer(body).unwrap(), expected);
        let bare = br#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#;
        assert_eq!(OpenAi.answer(bare).unwrap(), Answer { rows: vec![vec![1.0], vec![2.0]], tokens: None });
    }

    #[test]
    fn an_index_that_cannot_be_is_an_error() {
        let wrong = |body: &str| tests::fault(Kind::OpenAi, body).what;
        let two = |a: &str, b: &str| format!(r#"{{"data":[{{{a}"embedding":[1]}},{{{b}"embedding":[2]}}]}}"#);
        assert!(wrong(&two("\"index\":0,", "\"index\":0,")).contains("two vectors have index 0"));
        assert!(wrong(&two("\"index\":0,", "\"index\":2,")).contains("index 2 among 2, expected 0 to 1"));
        assert!(wrong(&two("\"index\":0,", "")).contains("some have none"));
        assert!(wrong(r#"{"error":{"message":"x"}}"#).contains("missing field `data`"));
    }
}
