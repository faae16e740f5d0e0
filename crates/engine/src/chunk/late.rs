//! Late chunking: a pass over the document, its rows pooled chunk by chunk.

use super::Plan;
use crate::Embedder;
use embral_tokenize::{Parts, Span};
use embral_types::{Batch, Error, ErrorKind, Result};
use std::ops::Range;

/// Windows overlap by this part of their room.
const OVERLAP: usize = 4;

/// A document and the chunks of it that are wanted, in their order.
pub(super) struct Wanted<'a> {
    /// How messages call it.
    pub(super) number: usize,
    pub(super) text: &'a str,
    pub(super) chunks: &'a [Range<usize>],
}

/// Hands out the vector of each chunk by the number of its document and its own in the list.
pub(super) type Emit<'a> = &'a mut dyn FnMut(usize, usize, &[f32]) -> Result<()>;

/// One pass through the model: some tokens of a document, and those whose rows are taken from it.
struct Window {
    document: usize,
    tokens: Range<usize>,
    kept: Range<usize>,
    last: bool,
}

/// A document under way. Its rows are counted from the first special token to the last, those of further windows left out.
struct Pass {
    parts: Parts,
    /// The rows of each chunk.
    runs: Vec<Range<usize>>,
    /// Chunks handed out.
    done: usize,
    /// Rows from `first` on.
    rows: Vec<f32>,
    first: usize,
}

/// The windows of a document of `tokens` tokens, where `room` of them fit into one.
fn windows(tokens: usize, room: usize) -> Vec<(Range<usize>, Range<usize>)> {
    if tokens <= room {
        return vec![(0..tokens, 0..tokens)];
    }
    let step = room - room / OVERLAP;
    // The last window is as long as the others, so that its tokens see as much.
    let mut starts: Vec<usize> = (0..).map(|w| w * step).take_while(|start| start + room < tokens).collect();
    starts.push(tokens - room);
    let mut from = 0;
    let mut windows = Vec::with_capacity(starts.len());
    for (w, &start) in starts.iter().enumerate() {
        // The middle of the overlap: there a token stands as deep in one window as in the other.
        let to = starts.get(w + 1).map_or(tokens, |next| (next + start + room) / 2);
        windows.push((start..start + room, from..to));
        from = to;
    }
    windows
}

/// The tokens that begin in some bytes of the text.
fn tokens_in(tokens: &[Span], bytes: &Range<usize>) -> Range<usize> {
    let before = |at: usize| tokens.partition_point(|span| span.bytes.start < at);
    before(bytes.start)..before(bytes.end)
}

/// The document as rows, and the windows that its chunks need.
fn prepare(embedder: &Embedder, plan: &Plan, wanted: &Wanted<'_>, document: usize) -> Result<(Pass, Vec<Window>)> {
    let opened = embedder.local()?;
    let room = opened.tokenizer.room(&plan.prompt)?;
    let skip_prompt = !opened.include_prompt && !plan.prompt.is_empty();
    let parts = opened.tokenizer.parts(wanted.text, &plan.prompt)?;
    Plan::allow_windows(embedder, parts.tokens.len(), room)?;
    let head = parts.prefix.len() + parts.prompt.len();
    let run = |bytes: &Range<usize>| {
        let tokens = tokens_in(&parts.tokens, bytes);
        let start = if bytes.start == 0 && !skip_prompt { 0 } else { head + tokens.start };
        let behind = if bytes.end == wanted.text.len() { parts.suffix.len() } else { 0 };
        start..head + tokens.end + behind
    };
    let runs: Vec<Range<usize>> = wanted.chunks.iter().map(run).collect();
    let mut needed = Vec::new();
    let mut first = 0;
    if let (Some(from), Some(to)) = (runs.first().map(|run| run.start), runs.last().map(|run| run.end)) {
        let windows = windows(parts.tokens.len(), room);
        let count = windows.len();
        for (w, (tokens, kept)) in windows.into_iter().enumerate() {
            let last = w + 1 == count;
            // The rows that are taken from the window.
            let rows_from = if w == 0 { 0 } else { head + kept.start };
            let rows_to = head + kept.end + if last { parts.suffix.len() } else { 0 };
            if rows_to > from && rows_from < to {
                if needed.is_empty() {
                    first = rows_from;
                }
                needed.push(Window { document, tokens, kept, last });
            }
        }
    }
    Ok((Pass { parts, runs, done: 0, rows: Vec::new(), first }, needed))
}

/// The vectors of the chunks of several documents, in order, as they are ready. What goes wrong with a document comes behind the
/// vectors of those before it.
pub(super) fn embed(embedder: &Embedder, plan: &Plan, documents: &[Wanted<'_>], emit: Emit<'_>) -> Result<()> {
    let mut passes = Vec::with_capacity(documents.len());
    let mut all = Vec::new();
    let mut failed = Ok(());
    for (document, wanted) in documents.iter().enumerate() {
        match prepare(embedder, plan, wanted, document) {
            Ok((pass, mut windows)) => {
                passes.push(pass);
                all.append(&mut windows);
            }
            Err(e) => {
                failed = Err(Error::new(e.kind(), format!("document {}: {e}", wanted.number)).because(e));
                break;
            }
        }
    }
    run(embedder, &mut passes, &all, emit)?;
    failed
}

/// Passes the windows through the model, some of them together.
fn run(embedder: &Embedder, passes: &mut [Pass], all: &[Window], emit: Emit<'_>) -> Result<()> {
    let opened = embedder.local()?;
    let mut batch = Batch::default();
    let mut rows = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let begun = at;
        batch.clear();
        while at < all.len() {
            let Window { document, tokens, .. } = &all[at];
            let Parts { prefix, prompt, tokens: spans, suffix } = &passes[*document].parts;
            let length = prefix.len() + prompt.len() + tokens.len() + suffix.len();
            if !batch.is_empty() && batch.tokens() + length > embedder.batch_tokens() {
                break;
            }
            let ids = spans[tokens.clone()].iter().map(|span| span.id);
            batch.push(
                &prefix.iter().chain(prompt).copied().chain(ids).chain(suffix.iter().copied()).collect::<Vec<_>>(),
            );
            at += 1;
        }
        embedder.in_pool(|| opened.encoder.token_rows(&batch, &mut rows))?;
        let width = rows.len().checked_div(batch.tokens()).unwrap_or(0);
        for (sequence, window) in all[begun..at].iter().enumerate() {
            let offset = batch.offsets()[sequence] as usize;
            let pass = &mut passes[window.document];
            let head = pass.parts.prefix.len() + pass.parts.prompt.len();
            // Of the rows before and behind the tokens, those of the first and of the last window count.
            let start = if window.kept.start == 0 { 0 } else { head + window.kept.start - window.tokens.start };
            let behind = if window.last { pass.parts.suffix.len() } else { 0 };
            let end = head + window.kept.end - window.tokens.start + behind;
            pass.rows.extend_from_slice(&rows[(offset + start) * width..(offset + end) * width]);
        }
        let touched = all[begun].document..all[at - 1].document + 1;
        hand_out(embedder, &mut passes[touched.clone()], touched.start, width, emit)?;
    }
    Ok(())
}

/// Pools the chunks whose rows are there, and lets go of the rows that no chunk needs any more.
fn hand_out(embedder: &Embedder, passes: &mut [Pass], base: usize, width: usize, emit: Emit<'_>) -> Result<()> {
    let mut gathered = Vec::new();
    let mut lengths = Vec::new();
    let mut chunks = Vec::new();
    for (document, pass) in passes.iter_mut().enumerate() {
        let there = pass.first + pass.rows.len() / width.max(1);
        while let Some(run) = pass.runs.get(pass.done).filter(|run| run.end <= there) {
            let run = run.start.min(run.end)..run.end;
            gathered.extend_from_slice(&pass.rows[(run.start - pass.first) * width..(run.end - pass.first) * width]);
            lengths.push(run.len());
            chunks.push((base + document, pass.done));
            pass.done += 1;
        }
        let needed = pass.runs.get(pass.done).map_or(there, |run| run.start.min(there));
        pass.rows.drain(..(needed - pass.first) * width);
        pass.first = needed;
    }
    let dim = embedder.dimensions();
    let mut out = vec![0.0; lengths.len() * dim];
    if lengths.is_empty() {
        return Ok(());
    }
    embedder.in_pool(|| embedder.local()?.encoder.pool_runs(&gathered, &lengths, &mut out))?;
    for ((document, chunk), vector) in chunks.into_iter().zip(out.chunks_exact(dim)) {
        if vector.iter().any(|x| !x.is_finite()) {
            let message = format!("document {document}, chunk {chunk} gave a vector that is not finite");
            return Err(Error::new(ErrorKind::Malformed, message).hint("the model's weights overflow f32"));
        }
        emit(document, chunk, vector)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_keep_every_token_once_where_it_stands_deeper() {
        for (tokens, room) in [(0, 5), (5, 5), (6, 5), (100, 8), (101, 30), (1000, 7), (9, 1), (10, 3)] {
            let windows = windows(tokens, room);
            assert_eq!((windows[0].1.start, windows[windows.len() - 1].1.end), (0, tokens));
            for (w, (whole, kept)) in windows.iter().enumerate() {
                assert!(whole.len() == room.min(tokens) && whole.start <= kept.start && kept.end <= whole.end);
                let Some((next, next_kept)) = windows.get(w + 1) else { continue };
                assert_eq!(kept.end, next_kept.start);
                for token in next.start..whole.end {
                    // Towards an end of the document that a window has, there is no edge.
                    let depth = |window: &Range<usize>| {
                        let (before, behind) = (token - window.start, window.end - 1 - token);
                        before.min(behind)
                    };
                    let taken = if token < kept.end { whole } else { next };
                    let other = if token < kept.end { next } else { whole };
                    assert!(
                        depth(taken) >= depth(other) || taken.start == 0 || taken.end == tokens,
                        "{windows:?} {token}"
                    );
                }
            }
        }
    }
}
