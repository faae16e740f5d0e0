//! Long documents: chunks of a text, a vector for each, and one vector for all.
//!
//! A text is cut into chunks of at most [`Chunking::size`] tokens, with byte offsets. Neighbours share up to
//! [`Chunking::overlap`] tokens; without the overlap the chunks cover the text without a gap. The vector of a chunk is that of its
//! text, white space at its ends left out, or with [`Chunking::late`] the pooled rows of its tokens out of one pass over the
//! whole document, where every token has seen the text around its chunk.
//!
//! ```
//! # fn main() -> embral::Result<()> {
//! use embral::{Embedder, Prompt, chunk::{Aggregate, ChunkBy, Chunking}};
//! let embedder = Embedder::open_default()?;
//! let text = "Cats sleep most of the day. Dogs like walks. ".repeat(20);
//! let chunking = Chunking { by: ChunkBy::Tokens, size: Some(40), overlap: 8, ..Chunking::default() };
//! for chunk in embedder.embed_chunks([text.as_str()], &chunking, Prompt::Default)? {
//!     let chunk = chunk?;
//!     assert_eq!(chunk.vector, embedder.embed(text[chunk.bytes.clone()].trim())?);
//! }
//! let one = embedder.embed_documents(&[text.as_str()], &chunking, Aggregate::Mean, Prompt::Default)?;
//! assert_eq!(one.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`Embedder::embed_chunks`] works through an iterator, [`stream()`] through a stream in a thread of its own; both take whole texts
//! and growing documents ([`Part`]) and hold no more than a batch and a document's unfinished end. [`Growing`] cuts a text that is
//! still written, such as a live transcript, so that each chunk is there as soon as it can be, and leaves the vectors to others.
//!
//! **Late chunking.** The document is tokenised once and passed through the model whole. The first chunk owns the special tokens and
//! the prompt before the text, the last one those behind it, as in the reference of the method (Günther et al. 2024,
//! arXiv:2409.04701); where the model leaves the prompt out of its pooling, so does the first chunk. A document beyond the model's
//! limit goes through in windows that overlap by a quarter, each with the special tokens and the prompt of its own; in the overlap
//! a token's row is taken from the window where it stands further from the edge. It needs a transformer with mean or max pooling.

mod aggregate;
mod assemble;
mod document;
mod growing;
mod late;
mod markdown;
mod rows;
mod split;
mod stream;

pub use aggregate::{Aggregate, Aggregation};
pub use assemble::{ChunkVectors, Part};
pub use growing::{Growing, ReadyChunk};
pub use stream::{ChunkStream, StreamOptions, stream};

use crate::{Embedder, Prompt, Truncation};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::{fmt, ops::Range, str::FromStr};

/// Where a text is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChunkBy {
    /// Behind so many tokens of the model, between words where there are any.
    #[default]
    Tokens,
    /// Between paragraphs, else sentences, else words; as many as fit.
    Sentences,
    /// Between the headings and blocks of Markdown, else as sentences. A growing document is cut when it has ended, and one of more than
    /// 128 KiB is parsed in stretches that end before a heading, else behind a paragraph; chunks on both sides of such an end share nothing.
    Markdown,
    /// Nowhere: one chunk a document, for late chunking alone, whose windows have no longest text.
    Document,
}

impl ChunkBy {
    /// Every way, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Tokens, Self::Sentences, Self::Markdown, Self::Document];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Sentences => "sentences",
            Self::Markdown => "markdown",
            Self::Document => "document",
        }
    }
}

impl fmt::Display for ChunkBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChunkBy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name).ok_or_else(|| {
            let message = format!("unknown chunks {name:?}: expected tokens, sentences, markdown or document");
            Error::new(ErrorKind::InvalidInput, message)
        })
    }
}

/// How a text is cut into chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunking {
    /// Where it is cut.
    pub by: ChunkBy,
    /// The most tokens of a chunk, without special tokens and prompt; `None` is 256, or as many as the model takes.
    pub size: Option<usize>,
    /// The most tokens that neighbours share.
    pub overlap: usize,
    /// One pass over the whole document, pooled chunk by chunk.
    pub late: bool,
}

/// Tokens of a chunk where none are named: a passage of some paragraphs, and within what every model was trained on.
const SIZE: usize = 256;

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its bytes in the document.
    pub bytes: Range<usize>,
    /// Its tokens as a text of its own, without special tokens and prompt.
    pub tokens: usize,
}

/// The vector of a chunk, and where the chunk lies.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkVector {
    /// The document, from 0.
    pub document: usize,
    /// The chunk in its document, from 0.
    pub chunk: usize,
    /// Its bytes in the document.
    pub bytes: Range<usize>,
    /// Its tokens as a text of its own, without special tokens and prompt.
    pub tokens: usize,
    /// The vector, of [`Embedder::dimensions`] components.
    pub vector: Vec<f32>,
}

/// A [`Chunking`] that a model can do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    by: ChunkBy,
    size: usize,
    overlap: usize,
    late: bool,
    prompt: String,
}

impl Plan {
    pub(crate) fn new(embedder: &Embedder, chunking: &Chunking, prompt: Prompt<'_>) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        let prompt = embedder.prompt_text(prompt)?.to_owned();
        let opened = embedder.local()?;
        let room = opened.tokenizer.room(&prompt)?;
        let &Chunking { by, size, overlap, late } = chunking;
        if late {
            opened.encoder.late()?;
        }
        if by == ChunkBy::Document {
            if !late {
                return Err(invalid("a whole document is a chunk only of late chunking".to_owned())
                    .hint("ask for late chunking, or cut by tokens, sentences or markdown"));
            }
            if size.is_some() || overlap > 0 {
                return Err(invalid("a whole document as one chunk has neither a size nor an overlap".to_owned()));
            }
            return Ok(Self { by, size: usize::MAX, overlap, late, prompt });
        }
        if cfg!(not(feature = "split")) && by != ChunkBy::Tokens {
            return Err(Error::new(ErrorKind::Unsupported, format!("this build has no chunks by {by}"))
                .hint("build with the feature split, or cut by tokens"));
        }
        let size = size.unwrap_or(SIZE.min(room));
        if size == 0 {
            return Err(invalid("a chunk has at least 1 token, found a size of 0".to_owned()));
        }
        if size > room {
            let message = format!(
                "a chunk of {size} tokens is beyond the model's limit: {} tokens less special tokens and prompt are {room}",
                embedder.max_tokens()
            );
            return Err(invalid(message).hint(format!("give a size of 1 to {room}")));
        }
        if overlap >= size {
            let message = format!("expected an overlap below the chunk size, found {overlap} of {size}");
            return Err(invalid(message));
        }
        Ok(Self { by, size, overlap, late, prompt })
    }

    /// Fails where a text that takes more than one window is refused.
    fn allow_windows(embedder: &Embedder, tokens: usize, room: usize) -> Result<()> {
        if tokens > room && embedder.local()?.tokenizer.options().truncation == Truncation::Error {
            let message = format!("the text has {tokens} tokens, and a window of the model has room for {room}");
            return Err(Error::new(ErrorKind::TooLong, message)
                .hint("shorten it, or allow truncation, which lets it through in windows"));
        }
        Ok(())
    }
}

impl Embedder {
    /// The chunks of a text, in order, without their vectors. A text has at least one, the empty one too.
    ///
    /// # Errors
    /// Where the chunking asks for what the model cannot do, such as chunks beyond its limit.
    pub fn chunks(&self, text: &str, chunking: &Chunking, prompt: Prompt<'_>) -> Result<Vec<Chunk>> {
        let plan = Plan::new(self, chunking, prompt)?;
        document::Document::chunks(self, &plan, text.to_owned())
    }

    /// The vectors of the chunks of texts, in order, as they are ready. Texts are taken as they are needed.
    ///
    /// # Errors
    /// Where the chunking asks for what the model cannot do. What goes wrong with a text is an item, and the last one.
    pub fn embed_chunks<I>(
        &self,
        texts: I,
        chunking: &Chunking,
        prompt: Prompt<'_>,
    ) -> Result<ChunkVectors<'_, I::IntoIter>>
    where
        I: IntoIterator<Item: Into<Part>>,
    {
        Ok(ChunkVectors::new(self, Plan::new(self, chunking, prompt)?, texts.into_iter()))
    }

    /// The vectors of chunks that are known already, such as those of a document from some place on: for each text the bytes of some of
    /// its chunks, in their order.
    ///
    /// # Errors
    /// As [`Embedder::embed_chunks`], and where a chunk is no part of its text.
    pub fn embed_chunks_of(
        &self,
        texts: &[(&str, &[Range<usize>])],
        chunking: &Chunking,
        prompt: Prompt<'_>,
    ) -> Result<Embeddings> {
        let plan = Plan::new(self, chunking, prompt)?;
        let parts = texts.iter().flat_map(|&(text, chunks)| chunks.iter().map(move |bytes| (text, bytes)));
        let part = |(text, bytes): (&str, &Range<usize>)| match text.get(bytes.clone()) {
            Some(_) => Ok(()),
            None => {
                let message = format!("no part of a text of {} bytes: {bytes:?}", text.len());
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
        };
        parts.clone().try_for_each(part)?;
        if !plan.late {
            let texts: Vec<&str> = parts.map(|(text, bytes)| text[bytes.clone()].trim()).collect();
            return self.embed_batch_as(&texts, Prompt::Text(&plan.prompt));
        }
        let wanted = |(number, &(text, chunks))| late::Wanted { number, text, chunks };
        let wanted: Vec<late::Wanted<'_>> = texts.iter().enumerate().map(wanted).collect();
        let mut out = Vec::new();
        late::embed(self, &plan, &wanted, &mut |_, _, vector| {
            out.extend_from_slice(vector);
            Ok(())
        })?;
        Ok(Embeddings::new(out, self.dimensions()))
    }

    /// One vector a text: the vectors of its chunks, put together.
    ///
    /// # Errors
    /// As [`Embedder::embed_chunks`].
    pub fn embed_documents(
        &self,
        texts: &[impl AsRef<str> + Sync],
        chunking: &Chunking,
        aggregate: Aggregate,
        prompt: Prompt<'_>,
    ) -> Result<Embeddings> {
        let mut out = Vec::with_capacity(texts.len() * self.dimensions());
        let mut of_one: Vec<ChunkVector> = Vec::new();
        let mut close = |of_one: &mut Vec<ChunkVector>| {
            if !of_one.is_empty() {
                out.extend(aggregate.combine(of_one, self.info().normalize));
                of_one.clear();
            }
        };
        for chunk in self.embed_chunks(texts.iter().map(AsRef::as_ref), chunking, prompt)? {
            let chunk = chunk?;
            if of_one.last().is_some_and(|last| last.document != chunk.document) {
                close(&mut of_one);
            }
            of_one.push(chunk);
        }
        close(&mut of_one);
        Ok(Embeddings::new(out, self.dimensions()))
    }
}
