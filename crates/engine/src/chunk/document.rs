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
}

impl Document {
    /// One of which no more text comes.
    pub(super) fn whole(text: String) -> Self {
        Self { text, ended: true, ..Self::default() }
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
        self.stretch = self.stretch.max(plan.size.saturating_mul(split::BYTES_A_TOKEN)).max(FEWEST_BYTES);
        let end = match plan.by {
            // What the structure of Markdown ends with may be anywhere before its end.
            ChunkBy::Markdown | ChunkBy::Document if !self.ended => return Ok(Step::Starved),
            ChunkBy::Document => End { bytes: rest.len(), clean: true },
            ChunkBy::Markdown => markdown::stretch(rest, self.stretch.max(markdown::MOST_BYTES)),
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
            Some(last) if last.bytes.start == 0 => {
                self.stretch = end.bytes.saturating_mul(2);
                return Ok(Step::Cut);
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
