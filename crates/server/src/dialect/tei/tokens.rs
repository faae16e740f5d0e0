//! `/tokenize` and `/decode`.

use super::lease_for;
use crate::{
    body,
    failure::{Failure, Kind},
    front::{Asked, json},
    pipeline::Prompting,
};
use axum::response::Response;
use embral::serving::{ServedModel, TokenSpan};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
struct Tokenize {
    inputs: Texts,
    #[serde(default = "yes")]
    add_special_tokens: bool,
    #[serde(default)]
    prompt_name: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Serialize)]
struct Token {
    id: u32,
    text: String,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

pub(super) async fn tokenize(asked: Asked) -> Result<Response, Failure> {
    let request: Tokenize = body::json(&asked.body)?;
    let texts = match request.inputs {
        Texts::One(text) => vec![text],
        Texts::Many(many) => many,
    };
    if texts.is_empty() {
        return Err(Failure::new(Kind::Empty, "`inputs` cannot be empty").of_field("inputs"));
    }
    asked.app.check_count(texts.len())?;
    let lease = lease_for(&asked, request.model.as_deref(), |offers| offers.dense).await?;
    let model = Arc::clone(lease.model());
    let prompt = request.prompt_name.map_or(Prompting::Default, Prompting::Name);
    let tokenized = tokio::task::spawn_blocking(move || {
        let prompt = model.info().prompt_text(prompt.as_prompt())?;
        texts.iter().map(|text| tokens(&model, text, prompt, request.add_special_tokens)).collect()
    });
    let tokens: Result<Vec<Vec<Token>>, embral::Error> =
        tokenized.await.map_err(|_| Failure::new(Kind::Internal, "the tokenizer failed on these texts"))?;
    Ok(json(200, &tokens.map_err(Failure::from)?))
}

/// The tokens of a text with their places in it, counted in characters.
fn tokens(model: &ServedModel, text: &str, prompt: &str, special: bool) -> embral::Result<Vec<Token>> {
    let spans = model.tokenize(text, prompt, special)?;
    let ids = model.special_ids()?;
    // Spans come in the order of the text, so that its characters are counted once.
    let (mut bytes, mut characters) = (0, 0);
    let mut place = |at: usize| {
        if at < bytes {
            (bytes, characters) = (0, 0);
        }
        characters += text.get(bytes..at).map_or(0, |part| part.chars().count());
        bytes = at;
        characters
    };
    let token = |span: TokenSpan| {
        let around = span.bytes.is_none() && ids.binary_search(&span.id).is_ok();
        match span.bytes {
            Some(bytes) => Token {
                id: span.id,
                text: text.get(bytes.clone()).unwrap_or_default().to_owned(),
                special: false,
                start: Some(place(bytes.start)),
                stop: Some(place(bytes.end)),
            },
            None => Token { id: span.id, text: span.token, special: around, start: None, stop: None },
        }
    };
    Ok(spans.into_iter().map(token).collect())
}

#[derive(Debug, Deserialize)]
struct Decode {
    ids: Ids,
    #[serde(default = "yes")]
    skip_special_tokens: bool,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected token ids or a list of lists of them")]
enum Ids {
    One(Vec<u32>),
    Many(Vec<Vec<u32>>),
}

pub(super) async fn decode(asked: Asked) -> Result<Response, Failure> {
    let request: Decode = body::json(&asked.body)?;
    let all = match request.ids {
        Ids::One(ids) => vec![ids],
        Ids::Many(many) => many,
    };
    if all.iter().all(Vec::is_empty) {
        return Err(Failure::new(Kind::Empty, "`ids` cannot be empty").of_field("ids"));
    }
    asked.app.check_count(all.len())?;
    let lease = lease_for(&asked, request.model.as_deref(), |offers| offers.dense).await?;
    let text = |ids: &Vec<u32>| lease.model().decode(ids, !request.skip_special_tokens);
    let texts: embral::Result<Vec<String>> = all.iter().map(text).collect();
    Ok(json(200, &texts.map_err(Failure::from)?))
}
