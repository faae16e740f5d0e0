//! Texts through a model into an output: one thread reads, one embeds, one writes, with a few chunks between them, so that
//! an input of any size takes the memory of those chunks.

use crate::{
    chain,
    failure::stopped,
    input::{Input, Position, Record},
    output::{Vectors, Writer},
    progress::Progress,
};
use anyhow::{Result, anyhow, bail};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

/// Texts in a chunk: the first, and the bounds between which the number follows the model's speed.
const FIRST_TEXTS: usize = 64;
const FEWEST_TEXTS: usize = 16;
const MOST_TEXTS: usize = 4096;
/// Bytes of text in a chunk.
const MOST_BYTES: usize = 4 << 20;
/// What embedding a chunk should take: often enough for progress and checkpoints, seldom enough to cost nothing.
const CHUNK_SECONDS: f64 = 0.5;
/// Chunks that wait at each end.
const WAITING: usize = 2;

/// Records on their way, with the hash of the input up to each.
pub(crate) struct Chunk {
    pub(crate) records: Vec<Record>,
    chains: Vec<u64>,
    part: Option<f64>,
}

/// Rows that are there already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// How many.
    pub(crate) rows: u64,
    /// The hash of their inputs.
    pub(crate) chain: u64,
}

/// What a run read besides the texts that it embedded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leftovers {
    /// Rows left out because they could not be read.
    pub(crate) skipped: u64,
    /// What was wrong with the first of them.
    pub(crate) first_fault: Option<String>,
    /// Texts in which something was replaced by U+FFFD.
    pub(crate) repaired: u64,
}

/// One run.
pub(crate) struct Run<'a, E> {
    /// Where the texts come from.
    pub(crate) input: Input,
    /// The rows that need not be embedded again.
    pub(crate) done: Done,
    /// Embeds texts; gives the number of tokens too.
    pub(crate) embed: E,
    /// The fewest texts of a chunk that leave nothing idle.
    pub(crate) fewest: usize,
    /// Where the vectors go.
    pub(crate) writer: Writer,
    /// Who hears of it.
    pub(crate) progress: &'a mut Progress,
    /// Set from outside to stop at the next chunk.
    pub(crate) stop: &'a AtomicBool,
    /// How to go on with a stopped run.
    pub(crate) again: &'a str,
}

impl<E: FnMut(&[Record]) -> Result<(Vectors, usize)>> Run<'_, E> {
    /// Runs to the end; the rows of the output, and what was left over.
    pub(crate) fn run(mut self) -> Result<(u64, Leftovers)> {
        let fewest = self.fewest.clamp(FEWEST_TEXTS, MOST_TEXTS);
        let size = Arc::new(AtomicUsize::new(FIRST_TEXTS.max(fewest)));
        let (to_embed, chunks) = sync_channel(WAITING);
        let reader = {
            let (size, done, input) = (Arc::clone(&size), self.done, self.input);
            // Detached: it may wait for standard input for ever, and the run can end without it.
            thread::spawn(move || read(input, done, &size, &to_embed))
        };
        let (to_write, rows) = sync_channel::<(Chunk, Vectors)>(WAITING);
        let writer = self.writer;
        let writer = thread::spawn(move || write(writer, &rows));
        let sized = Size { size: &size, fewest };
        let outcome = embed(&chunks, &to_write, &sized, &mut self.embed, self.progress, self.stop);
        drop((to_write, chunks));
        let written = writer.join().map_err(|_| anyhow!("the writer failed: this is a bug"))?;
        self.progress.clear();
        let writer = written?;
        match outcome {
            Ok(End::Whole) => {}
            Ok(End::Stopped) => bail!(stopped(format!("stopped: {} rows are safe: {}", writer.safe(), self.again))),
            Err(error) if writer.safe() > 0 => bail!("{error:#}; {} rows are safe: then {}", writer.safe(), self.again),
            Err(error) => return Err(error),
        }
        let leftovers = reader.join().map_err(|_| anyhow!("the reader failed: this is a bug"))?;
        Ok((writer.finish()?, leftovers))
    }
}

/// The texts of the chunk that is read next, and the fewest that it may have.
struct Size<'a> {
    size: &'a AtomicUsize,
    fewest: usize,
}

#[derive(PartialEq)]
enum End {
    Whole,
    Stopped,
}

/// Embeds chunk after chunk. Ends early without an error where the writer has one to give.
fn embed(
    chunks: &Receiver<Result<Chunk>>,
    to_write: &SyncSender<(Chunk, Vectors)>,
    sized: &Size<'_>,
    embed: &mut impl FnMut(&[Record]) -> Result<(Vectors, usize)>,
    progress: &mut Progress,
    stop: &AtomicBool,
) -> Result<End> {
    let mut first = true;
    while let Ok(chunk) = chunks.recv() {
        let chunk = chunk?;
        if stop.load(Ordering::Relaxed) {
            return Ok(End::Stopped);
        }
        if chunk.records.is_empty() {
            progress.begin(chunk.part);
            continue;
        }
        let begin = Instant::now();
        let (vectors, tokens) = embed(&chunk.records)?;
        // The first chunk meets cold caches: it says little about the next.
        if !first {
            let factor = (CHUNK_SECONDS / begin.elapsed().as_secs_f64().max(1e-6)).clamp(0.25, 4.0);
            let next = (chunk.records.len() as f64 * factor) as usize;
            sized.size.store(next.clamp(sized.fewest, MOST_TEXTS), Ordering::Relaxed);
        }
        first = false;
        progress.advance(chunk.records.len(), tokens, chunk.part);
        if to_write.send((chunk, vectors)).is_err() {
            break;
        }
    }
    Ok(if stop.load(Ordering::Relaxed) { End::Stopped } else { End::Whole })
}

fn write(mut writer: Writer, rows: &Receiver<(Chunk, Vectors)>) -> Result<Writer> {
    while let Ok((chunk, vectors)) = rows.recv() {
        writer.push(&chunk.records, &chunk.chains, &vectors)?;
    }
    writer.commit()?;
    Ok(writer)
}

/// Reads the input in chunks. An empty chunk says that the rows of earlier runs lie behind.
fn read(mut input: Input, done: Done, size: &AtomicUsize, to_embed: &SyncSender<Result<Chunk>>) -> Leftovers {
    let position = input.position();
    let outcome = pass(&mut input, done).and_then(|mut chain| {
        let marker = Chunk { records: Vec::new(), chains: Vec::new(), part: position.part() };
        let mut open = to_embed.send(Ok(marker)).is_ok();
        while open {
            let (chunk, more) = gather(&mut input, &mut chain, size.load(Ordering::Relaxed), &position);
            open = chunk.records.is_empty() || to_embed.send(Ok(chunk)).is_ok();
            open &= more?;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        // Where nobody listens any more, another error has ended the run.
        let _ = to_embed.send(Err(error));
    }
    Leftovers { skipped: input.skipped, first_fault: input.first_fault, repaired: input.repaired }
}

/// Passes over the rows of earlier runs and makes sure that they are what those runs read.
fn pass(input: &mut Input, done: Done) -> Result<u64> {
    let mut chain = chain::START;
    for row in 0..done.rows {
        let Some(record) = input.next()? else {
            bail!(
                "cannot resume: the input has {row} rows and {} are written already: is it the same input?",
                done.rows
            );
        };
        chain = chain::next(chain, &record);
    }
    if chain != done.chain {
        bail!(
            "cannot resume: the first {} rows of the input are not those of the run that began: give the same input, or start again with --overwrite",
            done.rows
        );
    }
    Ok(chain)
}

/// The next chunk, and whether there may be more: the rows before a bad one are not lost with it.
fn gather(input: &mut Input, chain: &mut u64, most: usize, position: &Position) -> (Chunk, Result<bool>) {
    let mut chunk = Chunk { records: Vec::new(), chains: Vec::new(), part: None };
    let mut bytes = 0;
    let mut more = Ok(true);
    while chunk.records.len() < most && bytes < MOST_BYTES {
        match input.next() {
            Ok(Some(record)) => {
                *chain = chain::next(*chain, &record);
                bytes += record.text.len();
                chunk.records.push(record);
                chunk.chains.push(*chain);
            }
            end => {
                more = end.map(|_| false);
                break;
            }
        }
    }
    chunk.part = position.part();
    (chunk, more)
}
