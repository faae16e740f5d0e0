//! A text into chunks.

use super::{Chunk, ChunkBy, Plan};
use embral_tokenize::{Span, Tokenizer};
use embral_types::Result;
use std::ops::Range;

/// The most bytes of a chunk for each token of its size. Text has 3 to 6; noise that is one unknown token however long it is, and white
/// space, would otherwise be chunks of any length.
pub(super) const BYTES_A_TOKEN: usize = 64;

/// The chunks of one stretch of text, which cover it; none is nothing but white space unless the text is.
pub(super) fn split(tokenizer: &Tokenizer, plan: &Plan, text: &str) -> Result<Vec<Chunk>> {
    let counter = Counter { tokenizer, size: plan.size };
    let cuts = match plan.by {
        ChunkBy::Tokens => by_tokens(&counter, plan, text)?,
        ChunkBy::Document => std::iter::once(0..text.len()).collect(),
        #[cfg(feature = "split")]
        ChunkBy::Sentences | ChunkBy::Markdown => structure::cut(&counter, plan, text)?,
        #[cfg(not(feature = "split"))]
        ChunkBy::Sentences | ChunkBy::Markdown => unreachable!("a plan without the feature cuts by tokens"),
    };
    let mut chunks: Vec<Range<usize>> = Vec::with_capacity(cuts.len());
    let mut blank = None;
    for cut in cuts {
        if text[cut.clone()].trim().is_empty() {
            match chunks.last_mut() {
                Some(before) => before.end = before.end.max(cut.end),
                None => blank = blank.or(Some(cut.start)),
            }
        } else {
            chunks.push(blank.take().unwrap_or(cut.start)..cut.end);
        }
    }
    if chunks.is_empty() {
        chunks.push(0..text.len());
    }
    let chunk = |bytes: Range<usize>| Ok(Chunk { tokens: counter.all(&text[bytes.clone()])?, bytes });
    chunks.into_iter().map(chunk).collect()
}

/// Counts tokens as a chunk has them: of its text alone, without the white space at its ends.
struct Counter<'a> {
    tokenizer: &'a Tokenizer,
    size: usize,
}

impl Counter<'_> {
    /// The tokens of a chunk, exact where they fit; never fewer than its bytes make, so that a longer chunk is a larger one.
    fn tokens(&self, chunk: &str) -> Result<usize> {
        // So far beyond the size that no single character has as many.
        let too_many = self.size.saturating_mul(4).saturating_add(64);
        let least = chunk.len().div_ceil(BYTES_A_TOKEN);
        if least > self.size || self.tokenizer.is_capped(chunk.trim()) {
            return Ok(least.max(too_many));
        }
        Ok(self.tokenizer.count(chunk.trim(), too_many)?.max(least))
    }

    fn fits(&self, chunk: &str) -> Result<bool> {
        Ok(self.tokens(chunk)? <= self.size)
    }

    fn all(&self, chunk: &str) -> Result<usize> {
        self.tokenizer.count(chunk.trim(), usize::MAX)
    }
}

/// A place between two tokens where a text may be cut.
#[derive(Clone, Copy)]
struct Cut {
    /// The tokens before it.
    tokens: usize,
    byte: usize,
    /// Whether it is not inside a word.
    word: bool,
}

/// Chunks of as many tokens as fit, and never more as texts of their own, whose tokens at the start may differ from those that the
/// whole text has there. A cut is put between words where the second half of the chunk has such a place.
fn by_tokens(counter: &Counter<'_>, plan: &Plan, text: &str) -> Result<Vec<Range<usize>>> {
    let spans = counter.tokenizer.spans(text)?;
    let cuts = cuts(text, &spans);
    let mut chunks = Vec::new();
    // Indices of cuts; the first one is the start of the text. `reached` is where the chunk before ends.
    let (mut from, mut reached) = (0, 0);
    while from + 1 < cuts.len() {
        let start = cuts[from].byte;
        let least = cuts[from].tokens + plan.size / 2;
        let most = cuts[from].tokens + plan.size;
        // The last cut within the size; one further on where a character alone has more tokens.
        let mut to = (cuts.partition_point(|cut| cut.tokens <= most) - 1).max(from + 1);
        while to > from + 1 && !counter.fits(&text[start..cuts[to].byte])? {
            to -= 1;
        }
        if to + 1 < cuts.len() {
            let between = (from.max(reached) + 1..=to).rev().take_while(|&cut| cuts[cut].tokens > least);
            to = { between }.find(|&cut| cuts[cut].word).unwrap_or(to);
        }
        if to <= reached {
            // With as much overlap there is no room for anything new.
            from += 1;
            continue;
        }
        chunks.push(start..cuts[to].byte);
        reached = to;
        if to + 1 == cuts.len() {
            break;
        }
        let shared = cuts[to].tokens.saturating_sub(plan.overlap);
        from = cuts.partition_point(|cut| cut.tokens < shared).clamp(from + 1, to);
    }
    if chunks.is_empty() {
        chunks.push(0..text.len());
    }
    Ok(chunks)
}

/// Every place where a text may be cut, its start and its end among them. Several tokens of one character are not cut apart.
fn cuts(text: &str, spans: &[Span]) -> Vec<Cut> {
    let mut cuts = vec![Cut { tokens: 0, byte: 0, word: true }];
    let mut end = 0;
    for (tokens, span) in spans.iter().enumerate() {
        let byte = span.bytes.start;
        if tokens > 0 && byte >= end && byte > cuts[cuts.len() - 1].byte && text.is_char_boundary(byte) {
            let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let word = !(inside(text[..byte].chars().next_back()) && inside(text[byte..].chars().next()));
            cuts.push(Cut { tokens, byte, word });
        }
        end = end.max(span.bytes.end);
    }
    if text.len() > cuts[cuts.len() - 1].byte {
        cuts.push(Cut { tokens: spans.len(), byte: text.len(), word: true });
    }
    cuts
}

#[cfg(feature = "split")]
mod structure {
    use super::{ChunkBy, Counter, Plan};
    use embral_types::{Error, Result};
    use std::ops::Range;
    use text_splitter::{ChunkConfig, MarkdownSplitter, TextSplitter, TryChunkSizer};

    impl TryChunkSizer for Counter<'_> {
        type Error = Error;

        fn try_size(&self, chunk: &str) -> Result<usize> {
            self.tokens(chunk)
        }
    }

    pub(super) fn cut(counter: &Counter<'_>, plan: &Plan, text: &str) -> Result<Vec<Range<usize>>> {
        let counter = Counter { tokenizer: counter.tokenizer, size: counter.size };
        let config = ChunkConfig::new(plan.size)
            .with_sizer(counter)
            .with_trim(false)
            .with_overlap(plan.overlap)
            .expect("a plan has an overlap below its size");
        let place = |chunk: Result<(usize, &str)>| chunk.map(|(start, chunk)| start..start + chunk.len());
        if plan.by == ChunkBy::Markdown {
            MarkdownSplitter::new(config).try_chunk_indices(text).map(place).collect()
        } else {
            TextSplitter::new(config).try_chunk_indices(text).map(place).collect()
        }
    }
}
