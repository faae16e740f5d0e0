//! From texts as they come to the vectors of their chunks.

use super::{Chunk, ChunkVector, Plan, document::Document, document::Step, late};
use crate::{Embedder, Prompt};
use embral_types::{Error, Result};
use std::{collections::VecDeque, ops::Range};

/// Chunks are embedded when so many batches of them are there, or nothing more is to be had.
const BATCHES: usize = 4;

/// What the embedding of chunks is fed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A whole document.
    Document(String),
    /// More text of a growing document; the first of it begins one.
    More(String),
    /// The end of the growing document.
    End,
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self::Document(text)
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Self::Document(text.to_owned())
    }
}

impl From<&String> for Part {
    fn from(text: &String) -> Self {
        Self::Document(text.clone())
    }
}

/// A document of late chunking that waits for its pass.
struct Whole {
    document: usize,
    text: String,
    chunks: Vec<Chunk>,
}

/// Texts on their way to vectors.
pub(super) struct Assembler {
    plan: Plan,
    /// The document that is cut, where there is one.
    open: Option<Document>,
    /// The one behind it.
    next: Option<String>,
    /// Its number, or that of the next one.
    document: usize,
    /// Its chunks so far.
    chunks: usize,
    /// Chunks without their vectors, and their texts.
    pending: VecDeque<(ChunkVector, String)>,
    whole: VecDeque<Whole>,
    /// Tokens of `pending` and `whole`.
    tokens: usize,
}

impl Assembler {
    pub(super) fn new(plan: Plan) -> Self {
        let (pending, whole) = (VecDeque::new(), VecDeque::new());
        Self { plan, open: None, next: None, document: 0, chunks: 0, pending, whole, tokens: 0 }
    }

    /// Takes a part, when no step can be made any more.
    pub(super) fn feed(&mut self, part: Part) {
        match part {
            Part::More(text) => self.open.get_or_insert_default().push(text),
            Part::End => self.open.get_or_insert_default().end(),
            // A growing document ends where the next one begins.
            Part::Document(text) => match &mut self.open {
                Some(growing) => {
                    growing.end();
                    self.next = Some(text);
                }
                None => self.open = Some(Document::whole(text)),
            },
        }
    }

    /// Takes up the document behind the one that is cut to its end.
    fn close(&mut self) {
        self.open = self.next.take().map(Document::whole);
        self.document += 1;
        self.chunks = 0;
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self) {
        (self.open, self.next, self.tokens) = (None, None, 0);
        self.pending.clear();
        self.whole.clear();
    }

    /// Ends the growing document, where there is one.
    pub(super) fn finish(&mut self) {
        if let Some(document) = &mut self.open {
            document.end();
        }
    }

    /// Whether a document is growing.
    pub(super) fn growing(&self) -> bool {
        self.open.is_some()
    }

    /// Cuts a little further; whether there was anything to do.
    pub(super) fn step(&mut self, embedder: &Embedder) -> Result<bool> {
        let Some(document) = &mut self.open else { return Ok(false) };
        if self.plan.late {
            if !document.ended() {
                return Ok(false);
            }
            let text = self.open.take().map(Document::into_text).unwrap_or_default();
            let chunks = Document::chunks(embedder, &self.plan, text.clone())?;
            self.tokens += chunks.iter().map(|chunk| chunk.tokens).sum::<usize>().max(1);
            self.whole.push_back(Whole { document: self.document, text, chunks });
            self.close();
            return Ok(true);
        }
        let (number, chunks, pending, tokens) = (self.document, &mut self.chunks, &mut self.pending, &mut self.tokens);
        let step = document.step(embedder, &self.plan, &mut |chunk, text| {
            let row = ChunkVector {
                document: number,
                chunk: *chunks,
                bytes: chunk.bytes,
                tokens: chunk.tokens,
                vector: Vec::new(),
            };
            *tokens += row.tokens.max(1);
            *chunks += 1;
            pending.push_back((row, text.to_owned()));
        })?;
        if step == Step::Over {
            self.close();
        }
        Ok(step != Step::Starved)
    }

    /// Whether there are chunks enough to embed.
    pub(super) fn enough(&self, embedder: &Embedder) -> bool {
        self.tokens >= embedder.batch_tokens().saturating_mul(BATCHES)
    }

    /// Whether no chunk waits for its vector.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.whole.is_empty()
    }

    /// Embeds some of the chunks that are there, in order.
    pub(super) fn embed(&mut self, embedder: &Embedder, out: &mut dyn FnMut(ChunkVector)) -> Result<()> {
        let most = embedder.batch_tokens().saturating_mul(BATCHES);
        let mut tokens = 0;
        if self.plan.late {
            let mut documents = Vec::new();
            while let Some(whole) = self.whole.pop_front_if(|_| tokens < most) {
                tokens += whole.chunks.iter().map(|chunk| chunk.tokens).sum::<usize>().max(1);
                documents.push(whole);
            }
            self.tokens -= tokens;
            let ranges: Vec<Vec<Range<usize>>> =
                documents.iter().map(|d| d.chunks.iter().map(|chunk| chunk.bytes.clone()).collect()).collect();
            let wanted = documents.iter().zip(&ranges).map(|(d, chunks)| late::Wanted {
                number: d.document,
                text: &d.text,
                chunks,
            });
            return late::embed(embedder, &self.plan, &wanted.collect::<Vec<_>>(), &mut |of, at, vector| {
                let Whole { document, chunks, .. } = &documents[of];
                let Chunk { bytes, tokens } = chunks[at].clone();
                out(ChunkVector { document: *document, chunk: at, bytes, tokens, vector: vector.to_vec() });
                Ok(())
            });
        }
        let mut rows = Vec::new();
        let mut texts = Vec::new();
        while let Some((row, text)) = self.pending.pop_front_if(|_| tokens < most) {
            tokens += row.tokens.max(1);
            rows.push(row);
            texts.push(text);
        }
        self.tokens -= tokens;
        let vectors = embedder.embed_batch_as(&texts, Prompt::Text(&self.plan.prompt))?;
        for (row, vector) in rows.into_iter().zip(vectors.rows()) {
            out(ChunkVector { vector: vector.to_vec(), ..row });
        }
        Ok(())
    }
}

/// The vectors of chunks, in order, as they are ready: an iterator over an iterator of texts or parts of texts. See
/// [`Embedder::embed_chunks`].
///
/// A text is taken when the chunks of those before are less than some batches, so that no more than these are held, and the text. An
/// error comes behind the vectors of everything before it, and is the last item.
pub struct ChunkVectors<'a, I> {
    embedder: &'a Embedder,
    assembler: Assembler,
    input: I,
    ready: VecDeque<ChunkVector>,
    /// What went wrong behind everything that is ready.
    error: Option<Error>,
    /// Whether nothing more is to be had from the input.
    ended: bool,
}

impl<'a, I> ChunkVectors<'a, I> {
    pub(super) fn new(embedder: &'a Embedder, plan: Plan, input: I) -> Self {
        let (assembler, ready) = (Assembler::new(plan), VecDeque::new());
        Self { embedder, assembler, input, ready, error: None, ended: false }
    }
}

impl<I: Iterator<Item: Into<Part>>> ChunkVectors<'_, I> {
    /// Takes texts until there are chunks enough.
    fn gather(&mut self) -> Result<()> {
        while !self.ended && !self.assembler.enough(self.embedder) {
            if self.assembler.step(self.embedder)? {
                continue;
            }
            match self.input.next() {
                Some(part) => self.assembler.feed(part.into()),
                None if self.assembler.growing() => self.assembler.finish(),
                None => self.ended = true,
            }
        }
        Ok(())
    }
}

impl<I: Iterator<Item: Into<Part>>> Iterator for ChunkVectors<'_, I> {
    type Item = Result<ChunkVector>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            if let Err(error) = self.gather() {
                (self.error, self.ended) = (Some(error), true);
            }
            if self.assembler.is_empty() {
                return self.error.take().map(Err);
            }
            if let Err(error) = self.assembler.embed(self.embedder, &mut |row| self.ready.push_back(row)) {
                (self.error, self.ended) = (Some(error), true);
                self.assembler.clear();
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

impl<I> std::fmt::Debug for ChunkVectors<'_, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkVectors").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}
