//! What is said to each kind of server and what it answers: one file a kind, bytes in and values out, no network.

mod cohere;
mod ollama;
mod openai;
mod tei;

use super::Kind;
use crate::Truncation;
use base64::Engine as _;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// What a request asks for.
pub(super) struct Ask<'a> {
    pub(super) model: &'a str,
    pub(super) texts: &'a [Cow<'a, str>],
    pub(super) dims: Option<usize>,
    pub(super) normalize: Option<bool>,
    pub(super) truncation: Truncation,
    /// The name of a prompt, in the words of the server.
    pub(super) prompt: Option<&'a str>,
    /// Vectors as base64, where the kind knows it.
    pub(super) base64: bool,
}

/// What a server answered.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// In the order of the texts.
    pub(super) rows: Vec<Vec<f32>>,
    /// Tokens, where it says.
    pub(super) tokens: Option<u64>,
}

/// How a kind of server is spoken to.
pub(super) trait Dialect: Send + Sync {
    /// The path behind the base of an address; `bare` where the address has no path.
    fn path(&self, bare: bool) -> &'static str;
    /// Texts that every such server takes in one request.
    fn batch(&self) -> usize;
    /// The body of a request.
    fn request(&self, ask: &Ask<'_>) -> Value;
    /// The vectors of an answer; or what is wrong with it, in words.
    fn answer(&self, body: &[u8]) -> Result<Answer, Wrong>;
}

/// The one that a kind speaks.
pub(super) fn of(kind: Kind) -> &'static dyn Dialect {
    match kind {
        Kind::OpenAi => &openai::OpenAi,
        Kind::Tei => &tei::Tei,
        Kind::Ollama => &ollama::Ollama,
        Kind::Cohere => &cohere::Cohere,
    }
}

/// Why an answer is none.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) what: String,
    /// It ends too early: another try may bring all of it.
    pub(super) cut: bool,
}

impl From<serde_json::Error> for Wrong {
    fn from(e: serde_json::Error) -> Self {
        Self { what: e.to_string(), cut: e.is_eof() }
    }
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self { what, cut: false }
    }
}

/// Reads an answer, and says where NaN, which JSON does not have, is what stands in its way.
fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|e| {
        let mut wrong = Wrong::from(e);
        if !wrong.cut && body.windows(3).any(|w| w == b"NaN") {
            wrong.what.push_str(", and it holds NaN, which is no JSON: the model overflowed on the server");
        }
        wrong
    })
}

/// One vector: a list of numbers, or base64 of little-endian floats.
struct Row(Vec<f32>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector: a list of numbers, or base64 of 32-bit floats")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Row, E> {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                let bytes = bytes.map_err(|e| E::custom(format!("a vector in base64 that cannot be read: {e}")))?;
                if !bytes.len().is_multiple_of(4) {
                    let message = format!("a vector in base64 of {} bytes, expected a multiple of 4", bytes.len());
                    return Err(E::custom(message));
                }
                let number = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("a chunk has four bytes"));
                Ok(Row(bytes.chunks_exact(4).map(number).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Row, A::Error> {
                let mut row = Vec::new();
                while let Some(number) = numbers.next_element::<Option<f32>>()? {
                    let null = || format!("component {} of a vector is null, expected a number", row.len());
                    row.push(number.ok_or_else(|| serde::de::Error::custom(null()))?);
                }
                Ok(Row(row))
            }
        }
        from.deserialize_any(Either)
    }
}

fn plain(rows: Vec<Row>) -> Vec<Vec<f32>> {
    rows.into_iter().map(|row| row.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn ask<'a>(texts: &'a [Cow<'a, str>]) -> Ask<'a> {
        Ask {
            model: "m",
            texts,
            dims: None,
            normalize: None,
            truncation: Truncation::Right,
            prompt: None,
            base64: true,
        }
    }

    pub(super) fn fault(kind: Kind, body: &str) -> Wrong {
        of(kind).answer(body.as_bytes()).unwrap_err()
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in Kind::ALL {
                let _ = of(kind).answer(&bytes);
            }
        }

        #[test]
        fn an_answer_that_is_cut_off_is_known_as_such(cut in 0_usize..1000) {
            let bodies = [
                (Kind::OpenAi, r#"{"data":[{"index":0,"embedding":[1.5,-2]},{"index":1,"embedding":"AACAPw=="}]}"#),
                (Kind::Tei, "[[0.5,1],[2,3]]"),
                (Kind::Ollama, r#"{"model":"m","embeddings":[[0.5,1],[2,3]],"prompt_eval_count":3}"#),
                (Kind::Cohere, r#"{"embeddings":{"float":[[0.5,1],[2,3]]},"texts":["a","b"]}"#),
            ];
            for (kind, body) in bodies {
                prop_assert!(of(kind).answer(body.as_bytes()).is_ok());
                let part = &body[..cut % body.len()];
                prop_assert!(fault(kind, part).cut, "{}", part);
            }
        }

        #[test]
        fn floats_come_back_as_they_were(bits in proptest::collection::vec(any::<u32>(), 1..40)) {
            let row: Vec<f32> = bits.into_iter().map(f32::from_bits).filter(|x| x.is_finite()).collect();
            let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
            let text = format!("{:?}", base64::engine::general_purpose::STANDARD.encode(bytes));
            let of = |json: String| serde_json::from_str::<Row>(&json).unwrap().0;
            let same = |found: Vec<f32>| found.iter().map(|x| x.to_bits()).eq(row.iter().map(|x| x.to_bits()));
            prop_assert!(same(of(text)));
            prop_assert!(same(of(serde_json::to_string(&row).unwrap())));
        }
    }

    #[test]
    fn a_vector_that_is_none_says_why() {
        let wrong = |json: &str| serde_json::from_str::<Row>(json).err().unwrap().to_string();
        assert!(wrong("[1, null]").contains("component 1 of a vector is null"));
        assert!(wrong("[1, \"x\"]").contains("expected f32"));
        assert!(wrong("7").contains("expected a vector"));
        assert!(wrong("\"AAA\"").contains("base64"));
        assert!(wrong("\"AAAA\"").contains("3 bytes, expected a multiple of 4"));
        let nan = fault(Kind::Tei, "[[0.5,NaN]]");
        assert!(nan.what.contains("holds NaN") && !nan.cut, "{nan:?}");
    }
}
