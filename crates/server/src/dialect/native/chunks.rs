//! Long documents: chunks with a vector each, through the queue like any other text.

use crate::{
    app::App,
    caller::Caller,
    failure::{Failure, Kind},
    models::Lease,
    pipeline::{Computed, Prompting, Timings, Wish, aside},
};
use embral::{
    Truncation,
    chunk::{Chunk, ChunkVector, Chunking},
    serving::{Input, Reading, Sequence},
};
use serde::Deserialize;
use std::{sync::Arc, time::Instant};

/// How a document is cut, as a request says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Cut {
    by: Option<String>,
    size: Option<usize>,
    overlap: Option<usize>,
    late: bool,
}

impl Cut {
    pub(crate) fn chunking(&self) -> Result<Chunking, Failure> {
        Ok(Chunking {
            by: match &self.by {
                Some(name) => name.parse().map_err(|e| Failure::from(e).of_field("chunking"))?,
                None => Default::default(),
            },
            size: self.size,
            overlap: self.overlap.unwrap_or(0),
            late: self.late,
        })
    }
}

/// The chunks of the documents of a request, by document.
pub(crate) struct Chunked {
    pub(crate) documents: Vec<Vec<ChunkVector>>,
    pub(crate) tokens: usize,
    pub(crate) timings: Timings,
}

impl App {
    /// The chunks of documents with their vectors.
    pub(crate) async fn chunk(
        &self,
        caller: &Caller,
        lease: &Lease,
        texts: Vec<String>,
        (chunking, wish): (Chunking, Wish),
    ) -> Result<Chunked, Failure> {
        let start = Instant::now();
        let (most, model) = (self.settings.max_inputs, Arc::clone(lease.model()));
        let cut = move || cut(&model, &texts, &chunking, &wish, most);
        let (documents, sequences) = aside("a document cannot be cut", cut).await?;
        let tokenize = start.elapsed();
        let computed = self.run(caller, lease, sequences).await?;
        let timings = Timings { tokenize, ..computed.timings };
        self.metrics.computed(&Computed { timings, ..computed.clone() });
        let tokens = computed.tokens();
        let mut outputs = computed.rows.into_iter().map(|row| row.output);
        let mut all = Vec::with_capacity(documents.len());
        for (document, chunks) in documents.into_iter().enumerate() {
            // Late chunks of a document are one sequence, others one each.
            let late = if chunking.late { outputs.next().map(|output| output.chunks) } else { None };
            let of = |(number, chunk): (usize, Chunk)| {
                let vector = match &late {
                    Some(rows) => rows.row(number).to_vec(),
                    None => outputs.next().map(|output| output.vector).unwrap_or_default(),
                };
                ChunkVector { document, chunk: number, bytes: chunk.bytes, tokens: chunk.tokens, vector }
            };
            all.push(chunks.into_iter().enumerate().map(of).collect());
        }
        Ok(Chunked { documents: all, tokens, timings })
    }
}

/// The chunks of each document, and the sequences that give their vectors.
fn cut(
    model: &embral::serving::ServedModel,
    texts: &[String],
    chunking: &Chunking,
    wish: &Wish,
    most: usize,
) -> Result<(Vec<Vec<Chunk>>, Vec<Sequence>), Failure> {
    let Some(embedder) = model.embedder() else {
        let message =
            format!("{} does not cut documents: expected an embedding model of one output", model.info().name);
        return Err(Failure::new(Kind::Unsupported, message).of_field("chunking"));
    };
    let prompt = wish.prompt.as_prompt();
    // A chunk is never longer than the model takes.
    let reading = Reading { prompt, truncation: Some(Truncation::Right), wanted: wish.wanted.clone() };
    let (mut documents, mut sequences) = (Vec::with_capacity(texts.len()), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        let of_text = |e| Failure::from(e).of_text(index);
        let chunks = embedder.chunks(text, chunking, prompt).map_err(of_text)?;
        if chunking.late {
            let tokens = chunks.iter().map(|chunk| chunk.tokens).sum();
            let ranges = chunks.iter().map(|chunk| chunk.bytes.clone()).collect();
            sequences.push(Sequence::late(text.clone(), ranges, *chunking, prompt, tokens));
        } else {
            for chunk in &chunks {
                let part = text[chunk.bytes.clone()].trim();
                sequences.push(model.read(Input::Text(part), &reading).map_err(of_text)?);
            }
        }
        documents.push(chunks);
        if sequences.len() > most {
            let message = format!("the documents have more than {most} chunks: send fewer, or cut them larger");
            return Err(Failure::new(Kind::TooMany, message));
        }
    }
    Ok((documents, sequences))
}

impl Prompting {
    /// The prompt of what texts are: the words of all dialects for queries and documents, or the name of a prompt of the model.
    pub(crate) fn of_name(name: String) -> Self {
        match name.as_str() {
            "query" | "search_query" => Self::Query,
            "document" | "passage" | "search_document" => Self::Document,
            _ => Self::Name(name),
        }
    }
}
