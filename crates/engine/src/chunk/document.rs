//! A document that grows: which of its chunks no more text can change.

use super::{
    Chunk, ChunkBy, Plan,
    markdown::{self, End},
    split,
};
use crate::Embedder;
use embral_types::Result;

/// The fewest bytes that are cut at a time, which are the largest chunk's otherwise. What is cut again with the text behind it is the
/// last chunk of these.
const FEWEST_BYTES: usize = 4096;

/// Of a live document: bytes of its first stretch for each token of the chunk size, about what a token of text has. Where they are one chunk
/// alone the stretch grows by a quarter, so that a chunk is final when a quarter of one has come behind it.
const LIVE_BYTES_A_TOKEN: usize = 4;
const LIVE_FEWEST_BYTES: usize = 64;
/// Markdown is parsed in stretches of some chunks, and of no less than some paragraphs: at their ends chunks are shorter than they may be.
const LIVE_MARKDOWN_CHUNKS: usize = 4;
const LIVE_MARKDOWN_BYTES: usize = 1024;

/// The part of a document that is not cut yet.
///
/// Text is cut in stretches whose lengths depend on the document alone, so that it does not matter in which parts it came: the chunks
/// of a stretch but the last are final, and the next stretch begins with that one.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// From some final chunk on.
    text: String,
    /// Bytes of the document before `text`.
    before: usize,
    /// Bytes of `text` that are cut.
    done: usize,
    /// Bytes of the stretch, 0 where there is none yet.
    stretch: usize,
    /// Whether no more text comes.
    ended: bool,
    /// Whether chunks are wanted as soon as the text behind them is there.
    live: bool,
}

impl Document {
    /// One of which no more text comes.
    pub(super) fn whole(text: String) -> Self {
        Self { text, ended: true, ..Self::default() }
    }

    /// One that is still written, from some byte on: its stretches follow the chunk size, and no more of it is held than some chunks may
    /// have.
    pub(super) fn live(before: usize) -> Self {
        Self { before, live: true, ..Self::default() }
    }

    /// Bytes of the document so far.
    pub(super) fn bytes(&self) -> usize {
        self.before + self.text.len()
    }

    /// Bytes of it that are in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.text.capacity()
    }

    /// Whether no more text comes.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// More text.
    pub(super) fn push(&mut self, text: String) {
        // Moved to the front by halves, which costs each byte once.
        if self.done > self.text.len() / 2 {
            self.text.drain(..self.done);
            self.before += self.done;
            self.done = 0;
        }
        if self.text.is_empty() {
            self.text = text;
        } else {
            self.text.push_str(&text);
        }
    }

    /// No more text comes.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The text that was pushed, where none of it was cut.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Cuts one stretch and hands out the chunks that are final, each with its text without the white space at its ends.
    pub(super) fn step(&mut self, embedder: &Embedder, plan: &Plan, out: &mut dyn FnMut(Chunk, &str)) -> Result<Step> {
        let tokenizer = &embedder.local()?.tokenizer;
        let rest = &self.text[self.done..];
        let Stretches { first, markdown, most } = Stretches::of(plan, self.live);
        self.stretch = self.stretch.max(first);
        let end = match plan.by {
            ChunkBy::Markdown if self.live && rest.len() > self.stretch.max(markdown) => {
                markdown::stretch(rest, self.stretch.max(markdown))
            }
            // What the structure of Markdown ends with may be anywhere before its end.
            ChunkBy::Markdown | ChunkBy::Document if !self.ended => return Ok(Step::Starved),
            ChunkBy::Document => End { bytes: rest.len(), clean: true },
            ChunkBy::Markdown => markdown::stretch(rest, self.stretch.max(markdown)),
            // Only where there is more text is it known that the stretch is not the last.
            ChunkBy::Tokens | ChunkBy::Sentences if rest.len() > self.stretch => {
                End { bytes: rest.floor_char_boundary(self.stretch), clean: false }
            }
            ChunkBy::Tokens | ChunkBy::Sentences if !self.ended => return Ok(Step::Starved),
            ChunkBy::Tokens | ChunkBy::Sentences => End { bytes: rest.len(), clean: true },
        };
        let stretch = &rest[..end.bytes];
        let more = end.bytes < rest.len();
        let mut chunks = split::split(tokenizer, plan, stretch)?;
        let next = match (!end.clean).then(|| chunks.pop()).flatten() {
            Some(last) if last.bytes.start == 0 && end.bytes < most => {
                self.stretch = match self.live {
                    true => end.bytes + (end.bytes / 4).max(LIVE_FEWEST_BYTES),
                    false => end.bytes.saturating_mul(2),
                };
                return Ok(Step::Cut);
            }
            Some(last) if last.bytes.start == 0 => {
                chunks.push(last);
                Some(end.bytes)
            }
            Some(last) => Some(last.bytes.start),
            None => more.then_some(end.bytes),
        };
        let at = self.before + self.done;
        for Chunk { bytes, tokens } in chunks {
            let text = stretch[bytes.clone()].trim();
            out(Chunk { bytes: at + bytes.start..at + bytes.end, tokens }, text);
        }
        let Some(next) = next else { return Ok(Step::Over) };
        self.stretch = 0;
        self.done += next;
        Ok(Step::Cut)
    }

    /// The chunks of a whole text.
    pub(super) fn chunks(embedder: &Embedder, plan: &Plan, text: String) -> Result<Vec<Chunk>> {
        let mut document = Self::whole(text);
        let mut chunks = Vec::new();
        while document.step(embedder, plan, &mut |chunk, _| chunks.push(chunk))? != Step::Over {}
        Ok(chunks)
    }
}

/// How long stretches are.
struct Stretches {
    /// The shortest.
    first: usize,
    /// The shortest of Markdown.
    markdown: usize,
    /// One of so many bytes is final even where it is one chunk: white space without an end would be held for ever.
    most: usize,
}

impl Stretches {
    fn of(plan: &Plan, live: bool) -> Self {
        let bytes = plan.size.saturating_mul(split::BYTES_A_TOKEN);
        if !live {
            return Self { first: bytes.max(FEWEST_BYTES), markdown: markdown::MOST_BYTES, most: usize::MAX };
        }
        let first = plan.size.saturating_mul(LIVE_BYTES_A_TOKEN).max(LIVE_FEWEST_BYTES);
        let markdown = first.saturating_mul(LIVE_MARKDOWN_CHUNKS).max(LIVE_MARKDOWN_BYTES);
        Self { first, markdown, most: bytes.saturating_mul(2).max(markdown) }
    }
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Another step may be made.
    Cut,
    /// More text is needed.
    Starved,
    /// The document is cut to its end.
    Over,
}
