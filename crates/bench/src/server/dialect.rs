//! What servers are asked and what they answer, by dialect.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use embral::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fmt, str::FromStr};

/// The form of requests and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `/embral/v1/embed`.
    Embral,
    /// `/v1/embeddings` with numbers in JSON.
    OpenAi,
    /// `/v1/embeddings` with vectors in base64, as OpenAI's own client asks for them.
    #[default]
    OpenAiBase64,
    /// `/embed` of text-embeddings-inference.
    Tei,
    /// `/api/embed`.
    Ollama,
    /// `/v2/embed`.
    Cohere,
}

/// A body and where it goes.
pub(super) type Call = (&'static str, Value);

/// What an answer says: a row a text, in the order of the texts, and the tokens of all of them where it says so.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) rows: Vec<Vec<f32>>,
    pub(super) tokens: Option<u64>,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 6] = [Self::Embral, Self::OpenAi, Self::OpenAiBase64, Self::Tei, Self::Ollama, Self::Cohere];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embral => "embral",
            Self::OpenAi => "openai",
            Self::OpenAiBase64 => "openai-base64",
            Self::Tei => "tei",
            Self::Ollama => "ollama",
            Self::Cohere => "cohere",
        }
    }

    /// A request for the vectors of texts. One text goes alone, not in a list, where the dialect has that form.
    pub(super) fn embed(self, texts: &[&str]) -> Call {
        let input = if texts.len() == 1 { json!(texts[0]) } else { json!(texts) };
        match self {
            Self::Embral => ("/embral/v1/embed", json!({ "input": input })),
            Self::OpenAi => ("/v1/embeddings", json!({ "input": input, "encoding_format": "float" })),
            Self::OpenAiBase64 => ("/v1/embeddings", json!({ "input": input, "encoding_format": "base64" })),
            Self::Tei => ("/embed", json!({ "inputs": input, "truncate": true })),
            Self::Ollama => ("/api/embed", json!({ "input": input })),
            Self::Cohere => {
                ("/v2/embed", json!({ "texts": texts, "input_type": "search_document", "embedding_types": ["float"] }))
            }
        }
    }

    /// A request for the scores of documents; `None` where the dialect has none.
    pub(super) fn rerank(self, query: &str, documents: &[&str]) -> Option<Call> {
        match self {
            Self::Embral => Some(("/embral/v1/rerank", json!({ "query": query, "documents": documents }))),
            Self::OpenAi | Self::OpenAiBase64 => {
                Some(("/v1/rerank", json!({ "query": query, "documents": documents })))
            }
            Self::Tei => Some(("/rerank", json!({ "query": query, "texts": documents, "truncate": true }))),
            Self::Ollama => None,
            Self::Cohere => Some(("/v2/rerank", json!({ "query": query, "documents": documents }))),
        }
    }

    /// A request for the tokens of a text; `None` where the dialect has none.
    pub(super) fn tokenize(self, text: &str) -> Option<Call> {
        match self {
            Self::Embral => Some(("/embral/v1/tokenize", json!({ "input": text }))),
            Self::Tei => Some(("/tokenize", json!({ "inputs": text }))),
            Self::OpenAi | Self::OpenAiBase64 | Self::Ollama | Self::Cohere => None,
        }
    }

    /// The vectors of an answer. `header` is the value of `x-compute-tokens`, in which TEI says what others have in the body.
    pub(super) fn read_vectors(self, body: &[u8], header: Option<u64>) -> Result<Answer, String> {
        match self {
            Self::Embral | Self::OpenAi => {
                let list: List<Vec<f32>> = parse(body)?;
                let tokens = list.usage.and_then(|usage| usage.tokens);
                Ok(Answer { rows: in_order(list.data.into_iter().map(|row| (row.index, row.embedding)))?, tokens })
            }
            Self::OpenAiBase64 => {
                let list: List<String> = parse(body)?;
                let tokens = list.usage.and_then(|usage| usage.tokens);
                let rows = list.data.into_iter().map(|row| Ok((row.index, decode(&row.embedding)?)));
                Ok(Answer { rows: in_order(rows.collect::<Result<Vec<_>, String>>()?.into_iter())?, tokens })
            }
            Self::Tei => Ok(Answer { rows: parse(body)?, tokens: header }),
            Self::Ollama => {
                let answer: OllamaRows = parse(body)?;
                Ok(Answer { rows: answer.embeddings, tokens: answer.prompt_eval_count })
            }
            Self::Cohere => {
                let answer: CohereRows = parse(body)?;
                let tokens = answer.meta.and_then(|meta| meta.billed_units).and_then(|units| units.input_tokens);
                Ok(Answer { rows: answer.embeddings.float, tokens })
            }
        }
    }

    /// The scores of an answer as one row, in the order of the documents.
    pub(super) fn read_scores(self, body: &[u8]) -> Result<Answer, String> {
        let (results, tokens) = match self {
            Self::Tei => (parse::<Vec<Score>>(body)?, None),
            _ => {
                let ranking: Ranking = parse(body)?;
                (ranking.results, ranking.usage.and_then(|usage| usage.tokens))
            }
        };
        let rows = in_order(results.into_iter().map(|result| (result.index, result.score)))?;
        Ok(Answer { rows: vec![rows], tokens })
    }

    /// The ids of an answer as one row; exact in f32 below 2^24, which no vocabulary reaches.
    pub(super) fn read_tokens(self, body: &[u8]) -> Result<Answer, String> {
        let lists = match self {
            Self::Tei => parse::<Vec<Vec<Token>>>(body)?,
            _ => parse::<Tokens>(body)?.data,
        };
        Ok(Answer { rows: lists.iter().map(|list| list.iter().map(|t| t.id as f32).collect()).collect(), tokens: None })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(ErrorKind::InvalidInput, format!("unknown dialect {name:?}: expected one of {names}"))
        })
    }
}

#[derive(Deserialize)]
struct List<E> {
    data: Vec<Row<E>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Row<E> {
    index: usize,
    embedding: E,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(alias = "prompt_tokens")]
    tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OllamaRows {
    embeddings: Vec<Vec<f32>>,
    prompt_eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct CohereRows {
    embeddings: CohereForms,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct CohereForms {
    float: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Meta {
    billed_units: Option<Units>,
}

#[derive(Deserialize)]
struct Units {
    input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Ranking {
    results: Vec<Score>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Score {
    index: usize,
    #[serde(alias = "relevance_score")]
    score: f32,
}

#[derive(Deserialize)]
struct Tokens {
    data: Vec<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    id: u32,
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| format!("the answer is not of the form of the dialect: {e}"))
}

fn decode(text: &str) -> Result<Vec<f32>, String> {
    let bytes = STANDARD.decode(text).map_err(|e| format!("a vector is no base64: {e}"))?;
    let (floats, rest) = bytes.as_chunks::<4>();
    match rest {
        [] => Ok(floats.iter().map(|four| f32::from_le_bytes(*four)).collect()),
        _ => Err(format!("a vector has {} bytes, which is no multiple of 4", bytes.len())),
    }
}

/// The items by their index, which must be 0 to n - 1, each once.
fn in_order<T>(items: impl ExactSizeIterator<Item = (usize, T)>) -> Result<Vec<T>, String> {
    let mut slots: Vec<Option<T>> = (0..items.len()).map(|_| None).collect();
    for (index, item) in items {
        match slots.get_mut(index) {
            Some(slot @ None) => *slot = Some(item),
            Some(Some(_)) => return Err(format!("the answer has index {index} twice")),
            None => return Err(format!("the answer has index {index} of {}", slots.len())),
        }
    }
    Ok(slots.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_reads_what_its_server_answers() {
        let rows = vec![vec![1.0f32, -0.5], vec![0.25, 2.0]];
        let base64 = |row: &[f32]| STANDARD.encode(row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
        let list = |first: Value, second: Value, usage: Value| json!({ "data": [{ "index": 1, "embedding": second }, { "index": 0, "embedding": first }], "usage": usage });
        for (dialect, body) in [
            (Dialect::Embral, list(json!(rows[0]), json!(rows[1]), json!({ "tokens": 9 }))),
            (Dialect::OpenAi, list(json!(rows[0]), json!(rows[1]), json!({ "prompt_tokens": 9, "total_tokens": 9 }))),
            (
                Dialect::OpenAiBase64,
                list(json!(base64(&rows[0])), json!(base64(&rows[1])), json!({ "prompt_tokens": 9 })),
            ),
            (Dialect::Tei, json!(rows)),
            (Dialect::Ollama, json!({ "model": "m", "embeddings": rows, "prompt_eval_count": 9 })),
            (
                Dialect::Cohere,
                json!({ "embeddings": { "float": rows }, "meta": { "billed_units": { "input_tokens": 9 } } }),
            ),
        ] {
            let header = (dialect == Dialect::Tei).then_some(9);
            let answer = dialect.read_vectors(body.to_string().as_bytes(), header);
            assert_eq!(answer, Ok(Answer { rows: rows.clone(), tokens: Some(9) }), "{dialect}");
            assert!(dialect.read_vectors(b"{\"error\":1}", None).is_err(), "{dialect}");
            assert_eq!(dialect.name().parse::<Dialect>().unwrap(), dialect);
        }
        assert!("grpc".parse::<Dialect>().unwrap_err().to_string().contains("openai-base64, tei"));
    }

    #[test]
    fn answers_that_mix_up_their_texts_are_wrong() {
        let of = |indices: [usize; 2]| {
            let data: Vec<Value> = indices.iter().map(|i| json!({ "index": i, "embedding": [1.0] })).collect();
            Dialect::OpenAi.read_vectors(json!({ "data": data }).to_string().as_bytes(), None)
        };
        assert_eq!(of([1, 0]).unwrap().tokens, None);
        assert_eq!(of([0, 0]).unwrap_err(), "the answer has index 0 twice");
        assert_eq!(of([0, 2]).unwrap_err(), "the answer has index 2 of 2");
        let bytes = |text: &str| json!({ "data": [{ "index": 0, "embedding": text }] }).to_string();
        let read = |text: &str| Dialect::OpenAiBase64.read_vectors(bytes(text).as_bytes(), None).unwrap_err();
        assert!(read("AAA=").contains("2 bytes"), "{}", read("AAA="));
        assert!(read("?").contains("no base64"));
    }

    #[test]
    fn scores_and_tokens_are_rows_too() {
        let row = |rows: &[f32]| vec![rows.to_vec()];
        let tei = Dialect::Tei.read_scores(br#"[{"index":1,"score":0.5},{"index":0,"score":0.25}]"#).unwrap();
        assert_eq!(tei.rows, row(&[0.25, 0.5]));
        let ranking = br#"{"results":[{"index":0,"relevance_score":0.5}],"usage":{"tokens":4}}"#;
        assert_eq!(Dialect::Cohere.read_scores(ranking).unwrap(), Answer { rows: row(&[0.5]), tokens: Some(4) });
        assert_eq!(Dialect::Tei.read_tokens(br#"[[{"id":7,"text":"a"},{"id":9}]]"#).unwrap().rows, row(&[7.0, 9.0]));
        assert_eq!(Dialect::Embral.read_tokens(br#"{"data":[[{"id":7}]]}"#).unwrap().rows, row(&[7.0]));
        assert!(Dialect::Ollama.rerank("q", &["d"]).is_none() && Dialect::OpenAi.tokenize("t").is_none());
    }
}
