//! `POST /embral/v1/embed`.

use super::{
    Times, Treatment, Usage,
    chunks::Cut,
    encoding::{Encoded, Encoder, Encoding},
    prompting,
};
use crate::{
    body,
    dialect::Inputs,
    failure::{Failure, Kind},
    front::{Asked, json},
    pipeline::{Computed, Item, Row, Wish},
};
use axum::response::Response;
use embral::{
    Embeddings,
    chunk::{Aggregate, ChunkVector},
    serving::Wanted,
};
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Debug, Deserialize)]
pub(super) struct Embed {
    input: Inputs,
    #[serde(flatten)]
    treatment: Treatment,
    #[serde(default)]
    input_type: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    normalize: Option<bool>,
    #[serde(default)]
    outputs: Vec<Out>,
    #[serde(default)]
    encodings: Vec<Encoding>,
    #[serde(default)]
    chunking: Option<Cut>,
    #[serde(default)]
    aggregate: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Out {
    Dense,
    Sparse,
    MultiVector,
}

#[derive(Serialize)]
struct Embedded<'a> {
    model: &'a str,
    dimensions: usize,
    data: Vec<Datum>,
    usage: Usage,
    timings: Times,
}

#[derive(Serialize)]
struct Datum {
    index: usize,
    #[serde(flatten)]
    vector: Encoded,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse: Option<Sparse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_vector: Option<Vec<Vec<f32>>>,
    tokens: usize,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<Chunk>>,
}

#[derive(Serialize)]
struct Sparse {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

#[derive(Serialize)]
struct Chunk {
    start: usize,
    end: usize,
    tokens: usize,
    #[serde(flatten)]
    vector: Encoded,
}

pub(super) async fn embed(asked: Asked) -> Result<Response, Failure> {
    let start = Instant::now();
    let request: Embed = body::json(&asked.body)?;
    let caller = request.treatment.caller(&asked)?;
    let app = asked.app;
    if request.input.items.is_empty() {
        return Err(Failure::new(Kind::Empty, "input cannot be empty: expected a text or texts").of_field("input"));
    }
    let lease = app.models.lease(request.treatment.model.as_deref()).await?;
    let wants = |out| request.outputs.contains(&out);
    let dense = request.outputs.is_empty() || wants(Out::Dense);
    let wanted = Wanted {
        vector: dense,
        dims: request.dimensions,
        normalize: request.normalize,
        sparse: wants(Out::Sparse),
        multi_vector: wants(Out::MultiVector),
        rows: false,
    };
    let prompt = prompting(request.input_type, request.prompt)?;
    let truncation = request.treatment.truncate.map(Into::into);
    let encoder = Encoder::new(request.encodings, lease.model(), prompt.as_prompt(), request.dimensions)?;
    let dimensions = request.dimensions.unwrap_or(lease.model().info().dimensions);
    let wish = Wish { prompt, truncation, wanted };
    let (data, tokens, timings) = match request.chunking {
        None if request.aggregate.is_some() => {
            return Err(Failure::invalid("aggregate is for chunks: expected chunking beside it").of_field("aggregate"));
        }
        None => {
            let computed = app.compute(&caller, &lease, request.input.items, wish).await?;
            let (tokens, timings) = (computed.tokens(), computed.timings);
            (data(computed, &encoder, dense)?, tokens, timings)
        }
        Some(cut) => {
            if !request.outputs.is_empty() && request.outputs != [Out::Dense] || request.dimensions.is_some() {
                let message = "chunks have whole dense vectors alone: expected neither other outputs nor dimensions";
                return Err(Failure::invalid(message).of_field("chunking"));
            }
            let aggregate = request.aggregate.map(|name| name.parse::<Aggregate>()).transpose();
            let aggregate = aggregate.map_err(|e| Failure::from(e).of_field("aggregate"))?;
            let texts = texts(request.input.items)?;
            let normalize = wish.wanted.normalize.unwrap_or(lease.model().info().normalize);
            let chunked = app.chunk(&caller, &lease, texts, (cut.chunking()?, wish)).await?;
            let document = |(index, chunks)| of_chunks(index, chunks, aggregate, (&encoder, normalize));
            let data =
                chunked.documents.into_iter().enumerate().map(document).collect::<Result<Vec<Datum>, Failure>>()?;
            (data, chunked.tokens, chunked.timings)
        }
    };
    let written = Instant::now();
    let timings = Times::of(timings, start);
    let response = json(200, &Embedded { model: lease.name(), dimensions, data, usage: Usage { tokens }, timings });
    app.metrics.serialized(written.elapsed());
    Ok(response)
}

fn data(computed: Computed, encoder: &Encoder, dense: bool) -> Result<Vec<Datum>, Failure> {
    let datum = |(index, row): (usize, Row)| {
        let output = row.output;
        let sparse = Some(output.sparse).filter(|sparse| !sparse.is_empty());
        let rows = |rows: Embeddings| (0..rows.len()).map(|i| rows.row(i).to_vec()).collect();
        Ok(Datum {
            index,
            vector: if dense { encoder.encode(output.vector)? } else { Encoded::default() },
            sparse: sparse.map(|sparse| Sparse { ids: sparse.ids, weights: sparse.weights }),
            multi_vector: Some(output.multi_vector).filter(|rows| !rows.is_empty()).map(rows),
            tokens: row.tokens,
            truncated: row.truncated,
            chunks: None,
        })
    };
    computed.rows.into_iter().enumerate().map(datum).collect()
}

fn of_chunks(
    index: usize,
    chunks: Vec<ChunkVector>,
    aggregate: Option<Aggregate>,
    (encoder, normalize): (&Encoder, bool),
) -> Result<Datum, Failure> {
    let vector = match aggregate {
        Some(aggregate) => encoder.encode(aggregate.combine(&chunks, normalize))?,
        None => Encoded::default(),
    };
    let tokens = chunks.iter().map(|chunk| chunk.tokens).sum();
    let chunk = |chunk: ChunkVector| {
        let vector = encoder.encode(chunk.vector)?;
        Ok(Chunk { start: chunk.bytes.start, end: chunk.bytes.end, tokens: chunk.tokens, vector })
    };
    let chunks = chunks.into_iter().map(chunk).collect::<Result<Vec<Chunk>, Failure>>()?;
    Ok(Datum { index, vector, sparse: None, multi_vector: None, tokens, truncated: false, chunks: Some(chunks) })
}

/// Texts alone.
fn texts(items: Vec<Item>) -> Result<Vec<String>, Failure> {
    let text = |item| match item {
        Item::Text(text) => Ok(text),
        _ => {
            Err(Failure::invalid("documents are cut by their text: expected texts, found token ids").of_field("input"))
        }
    };
    items.into_iter().map(text).collect()
}
