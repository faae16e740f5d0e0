//! `/v1/embed` and `/v2/embed`.

use super::{Billed, Meta, Truncate, Urgency, Version, caller, id};
use crate::{
    body,
    dialect::native::encoding::{Encoded, Encoder, Encoding},
    failure::{Failure, Kind},
    front::{Asked, json},
    pipeline::{Item, Prompting, Wish},
};
use axum::response::Response;
use embral::serving::Wanted;
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Debug, Deserialize)]
struct Embed {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    texts: Option<Vec<String>>,
    #[serde(default)]
    inputs: Option<Vec<Input>>,
    #[serde(default)]
    images: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    input_type: Option<String>,
    #[serde(default)]
    embedding_types: Option<Vec<Encoding>>,
    #[serde(default)]
    output_dimension: Option<usize>,
    #[serde(default)]
    truncate: Option<Truncate>,
    #[serde(default)]
    priority: Option<Urgency>,
}

#[derive(Debug, Deserialize)]
struct Input {
    content: Vec<Part>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
    ImageUrl {},
}

#[derive(Default, Serialize)]
struct ByType {
    #[serde(skip_serializing_if = "Option::is_none")]
    float: Option<Vec<Vec<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<Vec<Vec<i8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uint8: Option<Vec<Vec<u8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<Vec<Vec<i8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubinary: Option<Vec<Vec<u8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Vec<String>>,
}

impl ByType {
    fn push(&mut self, row: Encoded) {
        fn add<T>(all: &mut Option<Vec<T>>, one: Option<T>) {
            if let Some(one) = one {
                all.get_or_insert_default().push(one);
            }
        }
        add(&mut self.float, row.embedding);
        add(&mut self.int8, row.int8);
        add(&mut self.uint8, row.uint8);
        add(&mut self.binary, row.binary);
        add(&mut self.ubinary, row.ubinary);
        add(&mut self.base64, row.base64);
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embeddings {
    Floats(Vec<Vec<f32>>),
    ByType(Box<ByType>),
}

#[derive(Serialize)]
struct Embedded {
    id: String,
    embeddings: Embeddings,
    texts: Vec<String>,
    meta: Meta,
    response_type: &'static str,
}

pub(super) async fn first(asked: Asked) -> Result<Response, Failure> {
    embed(asked, "1").await
}

pub(super) async fn second(asked: Asked) -> Result<Response, Failure> {
    embed(asked, "2").await
}

/// What stands before texts of this type: queries and documents by their role; the rest by the prompt of that name, where the model has one.
fn prompting(input_type: Option<String>, lease: &crate::models::Lease) -> Result<Prompting, Failure> {
    let Some(name) = input_type else { return Ok(Prompting::Default) };
    let known = lease.model().info().prompts.contains_key(&name);
    match name.as_str() {
        "search_query" | "search_document" | "query" | "document" => Ok(Prompting::of_name(name)),
        _ if known => Ok(Prompting::Name(name)),
        // Not what the model puts first by default, which is for texts of another type.
        "classification" | "clustering" => Ok(match lease.model().info().default_prompt {
            Some(_) => Prompting::Text(String::new()),
            None => Prompting::Default,
        }),
        "image" => Err(Failure::new(Kind::Unsupported, "input_type image: the model embeds texts alone")),
        _ => {
            let message = format!(
                "invalid input_type {name:?}: expected search_query, search_document, classification or clustering"
            );
            Err(Failure::invalid(message).of_field("input_type"))
        }
    }
}

/// The texts of a request, wherever in it they are.
fn texts(request: &mut Embed) -> Result<Vec<String>, Failure> {
    if request.images.is_some() {
        return Err(Failure::new(Kind::Unsupported, "images: the model embeds texts alone"));
    }
    let text = |input: Input| {
        let part = |part| match part {
            Part::Text { text } => Ok(text),
            Part::ImageUrl {} => Err(Failure::new(Kind::Unsupported, "image_url: the model embeds texts alone")),
        };
        input.content.into_iter().map(part).collect::<Result<Vec<String>, Failure>>().map(|parts| parts.join("\n"))
    };
    let texts = match (request.texts.take(), request.inputs.take()) {
        (Some(texts), None) => texts,
        (None, Some(inputs)) => inputs.into_iter().map(text).collect::<Result<Vec<String>, Failure>>()?,
        (Some(_), Some(_)) => return Err(Failure::invalid("expected texts or inputs, found both")),
        (None, None) => Vec::new(),
    };
    if texts.is_empty() {
        return Err(Failure::new(Kind::Empty, "texts cannot be empty: expected at least one").of_field("texts"));
    }
    Ok(texts)
}

async fn embed(asked: Asked, version: &'static str) -> Result<Response, Failure> {
    let mut request: Embed = body::json(&asked.body)?;
    let caller = caller(&asked, request.priority.as_ref())?;
    let texts = texts(&mut request)?;
    let app = asked.app;
    let lease = app.models.lease(request.model.as_deref()).await?;
    let by_type = version == "2" || request.embedding_types.is_some();
    let forms = request.embedding_types.unwrap_or_default();
    if forms.contains(&Encoding::F16) {
        return Err(Failure::invalid("embedding_types: f16 is not one of Cohere's").of_field("embedding_types"));
    }
    let prompt = prompting(request.input_type, &lease)?;
    let encoder = Encoder::new(forms, lease.model(), prompt.as_prompt(), request.output_dimension)?;
    let wish = Wish {
        prompt,
        truncation: request.truncate.map(Into::into),
        wanted: Wanted { dims: request.output_dimension, ..Wanted::default() },
    };
    let items = texts.iter().cloned().map(Item::Text).collect();
    let computed = app.compute(&caller, &lease, items, wish).await?;
    let tokens = computed.tokens();
    let written = Instant::now();
    let mut all = ByType::default();
    for row in computed.rows {
        all.push(encoder.encode(row.output.vector)?);
    }
    let (embeddings, response_type) = match by_type {
        true => (Embeddings::ByType(Box::new(all)), "embeddings_by_type"),
        false => (Embeddings::Floats(all.float.unwrap_or_default()), "embeddings_floats"),
    };
    let billed_units = Billed { input_tokens: Some(tokens), search_units: None };
    let meta = Meta { api_version: Version { version }, billed_units };
    let response = json(200, &Embedded { id: id(), embeddings, texts, meta, response_type });
    app.metrics.serialized(written.elapsed());
    Ok(response)
}
