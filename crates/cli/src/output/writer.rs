//! Where the rows of an output go, and how many of them are safe.

use super::{Encode, Format, Journal, Layout, Partial, Rows, Vectors, encoder, partial};
use crate::input::Record;
use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    time::{Duration, Instant},
};

/// Where an output goes and how it begins.
pub(crate) enum Begin {
    /// To standard output, a pipe or a device: bytes leave as they are made.
    Stream(Box<dyn Write + Send>),
    /// To a file, behind the rows that its journal counts.
    Partial(Partial),
}

enum Sink {
    Stream(Box<dyn Write + Send>),
    /// A stream whose first bytes are known at the end: kept in an unnamed file until then.
    Spool(File, Box<dyn Write + Send>),
    Partial(Partial),
}

/// One output: takes rows in order and knows which of them are safe.
pub(crate) struct Writer {
    encode: Box<dyn Encode>,
    sink: Sink,
    buffer: Vec<u8>,
    bytes: u64,
    /// Rows taken.
    rows: u64,
    /// Rows whose bytes have been appended, and the hash of their inputs.
    whole: u64,
    chain: u64,
    kept: usize,
    committed: Instant,
    interval: Duration,
}

impl Writer {
    /// Begins or goes on with an output; a checkpoint is made when `interval` has gone by since the last.
    pub(crate) fn open(begin: Begin, format: Format, layout: Layout, group: usize, interval: Duration) -> Result<Self> {
        let mut encode = encoder(format, layout, group)?;
        let (mut rows, mut bytes, mut chain) = (0, 0, crate::chain::START);
        let sink = match begin {
            Begin::Stream(to) if format == Format::Npy => {
                Sink::Spool(tempfile::tempfile().context("cannot write a temporary file")?, to)
            }
            Begin::Stream(to) => Sink::Stream(to),
            Begin::Partial(mut partial) => {
                let journal: &Journal = partial.journal();
                if journal.rows > 0 {
                    (rows, bytes, chain) = (journal.rows, journal.bytes, journal.chain);
                    partial.read(|file, bytes| encode.resume(file, bytes))?;
                }
                Sink::Partial(partial)
            }
        };
        let mut writer = Self {
            encode,
            sink,
            buffer: Vec::new(),
            bytes,
            rows,
            whole: rows,
            chain,
            kept: 0,
            committed: Instant::now(),
            interval,
        };
        if rows == 0 {
            writer.encode.begin(&mut writer.buffer)?;
        }
        Ok(writer)
    }

    /// Takes the next rows; `chains[i]` is the hash of the inputs up to and with record `i`.
    pub(crate) fn push(&mut self, records: &[Record], chains: &[u64], vectors: &Vectors) -> Result<()> {
        let mut first = 0;
        while first < records.len() {
            let room = self.encode.group() - self.kept;
            // Where each row stands alone there is no group to fill, and all rows go at once.
            let take = if self.encode.group() == 1 { records.len() } else { room.min(records.len() - first) };
            self.encode.rows(Rows { records: &records[first..first + take], vectors, first }, &mut self.buffer)?;
            first += take;
            self.rows += take as u64;
            self.kept += take;
            if self.kept >= self.encode.group() {
                self.kept = 0;
                self.whole = self.rows;
                self.chain = chains[first - 1];
                self.drain()?;
            }
        }
        if self.committed.elapsed() >= self.interval {
            self.commit()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        match &mut self.sink {
            Sink::Stream(to) => {
                to.write_all(&self.buffer).and_then(|()| to.flush()).context("cannot write the output")?;
            }
            Sink::Spool(file, _) => file.write_all(&self.buffer).context("cannot write a temporary file")?,
            Sink::Partial(partial) => partial.append(&self.buffer)?,
        }
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the whole rows safe; costs a write through to the disk.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.committed = Instant::now();
        if let Sink::Partial(partial) = &mut self.sink
            && self.whole > partial.journal().rows
        {
            partial.commit(self.whole, self.bytes, self.chain)?;
        }
        Ok(())
    }

    /// Rows that a resumed run would find.
    pub(crate) fn safe(&self) -> u64 {
        match &self.sink {
            Sink::Partial(partial) => partial.journal().rows,
            Sink::Stream(_) | Sink::Spool(..) => 0,
        }
    }

    /// Ends the output and gives it its name; the number of rows that it has.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.encode.flush(&mut self.buffer)?;
        let start = self.encode.end(self.rows, &mut self.buffer)?;
        self.drain()?;
        match self.sink {
            Sink::Stream(mut to) => {
                ensure!(start.is_none(), "this format cannot be written to a stream");
                to.flush().context("cannot write the output")?;
            }
            Sink::Spool(mut file, mut to) => {
                if let Some(start) = start {
                    file.seek(SeekFrom::Start(0))
                        .and_then(|_| file.write_all(&start))
                        .context("cannot write a temporary file")?;
                }
                partial::copy(&mut file, &mut *to).context("cannot write the output")?;
            }
            Sink::Partial(partial) => partial.finish(start.as_deref())?,
        }
        Ok(self.rows)
    }
}

/// Standard output, buffered by the writer's own chunks.
pub(crate) fn standard_output() -> Begin {
    Begin::Stream(Box::new(io::stdout()))
}
