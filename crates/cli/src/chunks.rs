//! Long documents: each record becomes the records of its chunks, or one vector made of those of its chunks.

use crate::{
    failure::usage,
    input::{Place, Record},
    output,
};
use anyhow::{Result, anyhow};
use clap::Args;
use embral::{
    Embedder, Embeddings, ErrorKind, Prompt,
    chunk::{Aggregate, ChunkBy, ChunkVector, Chunking},
};
use std::{collections::BTreeMap, num::NonZeroUsize, ops::Range, sync::Arc};

/// Flags of chunks, as typed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Long documents")]
pub(crate) struct ChunkFlags {
    /// Cut each text into chunks, a vector each: tokens, sentences or markdown; document is one chunk, for --late
    #[arg(long, value_name = "HOW")]
    chunk: Option<ChunkBy>,
    /// The most tokens of a chunk [default: 256, or as many as the model takes]
    #[arg(long, value_name = "N", requires = "chunk")]
    chunk_size: Option<NonZeroUsize>,
    /// The most tokens that neighbouring chunks share
    #[arg(long, value_name = "N", default_value = "0", requires = "chunk")]
    chunk_overlap: usize,
    /// Pass the whole text through the model and pool its rows chunk by chunk
    #[arg(long, requires = "chunk")]
    late: bool,
    /// Make one vector a text out of those of its chunks: mean, max, weighted (by tokens) or attention
    #[arg(long, value_name = "HOW", requires = "chunk")]
    aggregate: Option<Aggregate>,
}

impl ChunkFlags {
    /// What the flags ask for, where they ask for chunks.
    pub(crate) fn resolve(&self) -> Option<Chunks> {
        let chunking = Chunking {
            by: self.chunk?,
            size: self.chunk_size.map(NonZeroUsize::get),
            overlap: self.chunk_overlap,
            late: self.late,
        };
        Some(Chunks { chunking, aggregate: self.aggregate })
    }

    /// What a run must share with the one that it goes on with.
    pub(crate) fn settings(&self, settings: &mut BTreeMap<String, String>) {
        let Some(by) = self.chunk else { return };
        let mut set = |flag: &str, value: String| settings.insert(flag.to_owned(), value);
        set("--chunk", by.to_string());
        set("--chunk-size", self.chunk_size.map_or_else(String::new, |n| n.to_string()));
        set("--chunk-overlap", self.chunk_overlap.to_string());
        set("--late", self.late.to_string());
        set("--aggregate", self.aggregate.map_or("", Aggregate::name).to_owned());
    }
}

/// How documents are cut, and what becomes of their chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    chunking: Chunking,
    aggregate: Option<Aggregate>,
}

impl Chunks {
    /// Whether a row is a chunk rather than a document.
    pub(crate) fn rows(self) -> bool {
        self.aggregate.is_none()
    }

    /// Whether the stages of the last call do not tell where the time went.
    pub(crate) fn has_no_profile(self) -> bool {
        self.chunking.late || self.aggregate.is_some()
    }

    /// Fails where a format has no place for where a chunk lies.
    pub(crate) fn ensure_fits(self, format: output::Format) -> Result<()> {
        if self.rows() && matches!(format, output::Format::Npy | output::Format::Raw) {
            return Err(usage(format!(
                "--chunk: {} holds numbers alone, and not where a chunk lies: write JSONL, CSV or Parquet, or pass --aggregate",
                format.name()
            )));
        }
        Ok(())
    }

    /// Fails where the model cannot do it; else what makes records of chunks out of a record.
    pub(crate) fn splitter(self, embedder: &Arc<Embedder>, prompt: Prompt<'_>) -> Result<Option<Split>> {
        embedder.chunks("", &self.chunking, prompt).map_err(|e| match e.kind() {
            ErrorKind::InvalidInput | ErrorKind::Unsupported => usage(e.to_string()),
            _ => e.into(),
        })?;
        if !self.rows() {
            return Ok(None);
        }
        let embedder = Arc::clone(embedder);
        let chunking = self.chunking;
        let prompt = embedder.prompt_text(prompt)?.to_owned();
        Ok(Some(Box::new(move |record: &Record| {
            let document: Arc<str> = record.text.as_str().into();
            let chunks = embedder.chunks(&document, &chunking, Prompt::Text(&prompt))?;
            let part = |(chunk, Range { start, end }): (usize, Range<usize>)| Record {
                id: record.id.clone(),
                text: document[start..end].to_owned(),
                line: record.line,
                place: Some(Place { chunk, start, end, document: chunking.late.then(|| Arc::clone(&document)) }),
            };
            Ok(chunks.into_iter().map(|chunk| chunk.bytes).enumerate().map(part).collect())
        })))
    }

    /// One vector a record, and the tokens they took.
    pub(crate) fn embed(
        self,
        embedder: &Embedder,
        prompt: Prompt<'_>,
        records: &[Record],
    ) -> Result<(Embeddings, usize)> {
        let texts = records.iter().map(|r| r.text.as_str());
        if let Some(aggregate) = self.aggregate {
            let mut rows: Vec<Vec<ChunkVector>> = records.iter().map(|_| Vec::new()).collect();
            for chunk in embedder.embed_chunks(texts, &self.chunking, prompt)? {
                let chunk = chunk.map_err(|e| self.located(embedder, prompt, e, records))?;
                rows[chunk.document].push(chunk);
            }
            let tokens = rows.iter().flatten().map(|chunk| chunk.tokens).sum();
            let normalize = embedder.info().normalize;
            let vectors = rows.iter().flat_map(|chunks| aggregate.combine(chunks, normalize)).collect();
            return Ok((Embeddings::new(vectors, embedder.dimensions()), tokens));
        }
        if !self.chunking.late {
            let texts: Vec<&str> = texts.map(str::trim).collect();
            return Ok((embedder.embed_batch_as(&texts, prompt)?, embedder.profile().tokens));
        }
        let parts = parts(records);
        let wanted: Vec<(&str, &[Range<usize>])> = parts.iter().map(|(text, chunks)| (*text, &chunks[..])).collect();
        let rows = embedder
            .embed_chunks_of(&wanted, &self.chunking, prompt)
            .map_err(|e| self.located(embedder, prompt, e, records))?;
        let tokens = embedder.count_tokens(&texts.collect::<Vec<_>>()).unwrap_or_default();
        Ok((rows, tokens.into_iter().sum()))
    }

    /// The error of some documents with the line of the one that it is about.
    fn located(
        self,
        embedder: &Embedder,
        prompt: Prompt<'_>,
        error: embral::Error,
        records: &[Record],
    ) -> anyhow::Error {
        if error.kind() != ErrorKind::TooLong {
            return error.into();
        }
        let about = records.iter().find_map(|record| {
            let place = record.place.as_ref();
            let text = place.and_then(|place| place.document.as_deref()).unwrap_or(&record.text);
            let whole = 0..text.len();
            let whole = std::slice::from_ref(&whole);
            embedder.embed_chunks_of(&[(text, whole)], &self.chunking, prompt).err().map(|e| (record.line, e))
        });
        match about {
            Some((line, e)) => {
                let message = e.message().split_once(": ").map_or(e.message(), |(_, what)| what);
                anyhow!(
                    "the text in line {line}: {message} (leave --truncate error out, and it goes through in windows)"
                )
            }
            None => error.into(),
        }
    }
}

/// Makes the records of its chunks out of a record.
pub(crate) type Split = Box<dyn FnMut(&Record) -> Result<Vec<Record>> + Send>;

/// The documents of records of chunks, each with the chunks that are among them.
fn parts(records: &[Record]) -> Vec<(&str, Vec<Range<usize>>)> {
    let mut parts: Vec<(&Arc<str>, Vec<Range<usize>>)> = Vec::new();
    for place in records.iter().filter_map(|record| record.place.as_ref()) {
        let Some(document) = &place.document else { continue };
        let range = place.start..place.end;
        match parts.last_mut() {
            Some((last, ranges)) if Arc::ptr_eq(last, document) => ranges.push(range),
            _ => parts.push((document, vec![range])),
        }
    }
    parts.into_iter().map(|(document, ranges)| (&**document, ranges)).collect()
}
