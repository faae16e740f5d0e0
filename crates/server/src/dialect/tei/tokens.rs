//! `/tokenize` and `/decode`.

use super::{How, check, lease_for, worded};
use crate::{
    body,
    failure::{Failure, Kind},
    front::{Asked, json},
    pipeline::{Item, Prompting, aside},
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

/// A token of a text.
#[derive(Debug, Serialize)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) special: bool,
    pub(crate) start: Option<usize>,
    pub(crate) stop: Option<usize>,
}

pub(super) async fn tokenize(asked: Asked) -> Result<Response, Failure> {
    let request: Tokenize = body::json(&asked.body)?;
    let texts = match request.inputs {
        Texts::One(text) => vec![text],
        Texts::Many(many) => many,
    };
    let how = How { prompt_name: request.prompt_name, model: request.model, ..How::default() };
    Ok(json(200, &tokenized(&asked, how, texts, request.add_special_tokens).await?))
}

/// The tokens of texts.
pub(crate) async fn tokenized(
    asked: &Asked,
    how: How,
    texts: Vec<String>,
    special: bool,
) -> Result<Vec<Vec<Token>>, Failure> {
    let items: Vec<Item> = texts.into_iter().map(Item::Text).collect();
    check(&items)?;
    asked.app.check_count(items.len())?;
    let lease = lease_for(asked, how.model.as_deref(), |_| true).await?;
    let model = Arc::clone(lease.model());
    let prompt = how.prompt_name.map_or(Prompting::Default, Prompting::Name);
    let all = move || {
        let prompt = model.info().prompt_text(prompt.as_prompt())?;
        let of = |item: &Item| match item {
            Item::Text(text) => tokens(&model, &[prompt, text].concat(), special),
            _ => Ok(Vec::new()),
        };
        items.iter().map(of).collect::<embral::Result<Vec<Vec<Token>>>>()
    };
    aside("the tokenizer failed on these texts", move || all().map_err(|e| worded(e.into()))).await
}

/// The tokens of a text with their places in it, counted in bytes. A prompt is part of the text here.
fn tokens(model: &ServedModel, text: &str, special: bool) -> embral::Result<Vec<Token>> {
    let token = |span: TokenSpan| match span.bytes {
        // A character may be several tokens, each a part of its bytes.
        Some(bytes) => Token {
            id: span.id,
            text: String::from_utf8_lossy(text.as_bytes().get(bytes.clone()).unwrap_or_default()).into_owned(),
            special: false,
            start: Some(bytes.start),
            stop: Some(bytes.end),
        },
        None => Token { id: span.id, text: span.token, special: true, start: None, stop: None },
    };
    Ok(model.tokenize(text, "", special)?.into_iter().map(token).collect())
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
    Ok(json(200, &decoded(&asked, request.model.as_deref(), all, request.skip_special_tokens).await?))
}

/// The texts of token ids.
pub(crate) async fn decoded(
    asked: &Asked,
    model: Option<&str>,
    all: Vec<Vec<u32>>,
    skip_special: bool,
) -> Result<Vec<String>, Failure> {
    if all.is_empty() || all.iter().any(Vec::is_empty) {
        let message = "Input validation error: `input_ids` cannot be empty";
        return Err(Failure::new(Kind::Empty, message).of_field("ids"));
    }
    asked.app.check_count(all.len())?;
    let lease = lease_for(asked, model, |_| true).await?;
    let model = Arc::clone(lease.model());
    let of = move |ids: &Vec<u32>| model.decode(ids, !skip_special).map_err(|e| worded(e.into()));
    aside("the tokenizer failed on these ids", move || all.iter().map(of).collect()).await
}
