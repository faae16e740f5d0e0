//! Texts out of files: one record a text, in the order of the file, in bounded memory.

mod csv;
mod document;
mod jsonl;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;

use crate::{chunks::Split, failure::usage};
use anyhow::{Context, Result, bail};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// One text with what names it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// What the input calls it, or its row number.
    pub(crate) id: Id,
    /// The text.
    pub(crate) text: String,
    /// Where it starts: line of a text file, row of a table, both from 1.
    pub(crate) line: u64,
    /// Where it lies, where it is a part of a document.
    pub(crate) place: Option<Place>,
}

/// A chunk of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// Which one, from 0.
    pub(crate) chunk: usize,
    /// Its first byte.
    pub(crate) start: usize,
    /// The byte behind it.
    pub(crate) end: usize,
    /// The document, where its vector depends on all of it.
    pub(crate) document: Option<Arc<str>>,
}

/// The name of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Id {
    /// The input gives none: the row number from 0.
    Row(u64),
    /// An integer.
    Int(i64),
    /// A string.
    Text(String),
    /// Any other JSON value, as it stands in the input.
    Json(String),
}

/// What ids are, where that is known before the first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdType {
    /// 32-bit integers.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "only Parquet has narrow integers"))]
    Int32,
    /// 64-bit integers.
    Int64,
    /// Strings.
    Text,
}

/// Why a row or a file could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// This row alone; the next one may be well.
    Row(anyhow::Error),
    /// The file.
    File(anyhow::Error),
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::File(error)
    }
}

/// A file format of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One text a line; every line counts, blank ones too.
    Text,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header line.
    Csv,
    /// Tab-separated values with a header line.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// The whole file is one text.
    Document,
}

impl Format {
    /// The format of a file by the end of its name; anything unknown is text lines.
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("csv") => Self::Csv,
            Some("tsv") => Self::Tsv,
            Some("parquet" | "pq") => Self::Parquet,
            _ => Self::Text,
        }
    }
}

/// Which texts to read and what to do with those that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The file; none is standard input.
    pub(crate) path: Option<PathBuf>,
    /// The format; by the file's name where none is given.
    pub(crate) format: Option<Format>,
    /// The field or column of the text.
    pub(crate) field: Option<String>,
    /// The field or column of the id.
    pub(crate) id_field: Option<String>,
    /// What to do with a row that cannot be read.
    pub(crate) bad: Bad,
    /// Whether texts of nothing but white space are left out.
    pub(crate) skip_blank: bool,
}

/// What to do with a row that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// End the run, and say how it could go on.
    Fail(&'static str),
    /// Leave it out and count it.
    Skip,
}

impl Options {
    /// How messages call the input.
    pub(crate) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "standard input".into(), |p| p.display().to_string())
    }

    /// The format in use.
    pub(crate) fn resolved_format(&self) -> Format {
        self.format.unwrap_or_else(|| self.path.as_deref().map_or(Format::Text, Format::of))
    }
}

/// The field of the text where none is named.
const TEXT_FIELD: &str = "text";

/// One format's way to the next record.
trait Source: Send {
    /// The next record; nothing at the end. Row ids are set by [`Input`].
    fn next(&mut self, repairs: &mut u64) -> Result<Option<Record>, Fault>;

    /// What ids are, where the file says it.
    fn id_type(&self) -> Option<IdType> {
        None
    }

    /// Rows or bytes read and the whole, where known other than by the bytes of the file.
    fn rows(&self) -> Option<(u64, u64)> {
        None
    }
}

/// How far an [`Input`] has been read; readable from another thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    done: Arc<AtomicU64>,
    total: u64,
}

impl Position {
    /// The part that has been read, 0 to 1, where the whole is known.
    pub(crate) fn part(&self) -> Option<f64> {
        (self.total > 0).then(|| (self.done.load(Ordering::Relaxed) as f64 / self.total as f64).min(1.0))
    }
}

/// The records of one input, in order, with faults counted.
pub(crate) struct Input {
    source: Box<dyn Source>,
    position: Position,
    by_rows: bool,
    bad: Bad,
    skip_blank: bool,
    rows: u64,
    /// What makes records of chunks, and those of the document read last.
    split: Option<Split>,
    chunks: VecDeque<Record>,
    /// Rows left out because they could not be read.
    pub(crate) skipped: u64,
    /// Texts in which bytes or escapes that are no text were replaced by U+FFFD.
    pub(crate) repaired: u64,
    /// What was wrong with the first row left out.
    pub(crate) first_fault: Option<String>,
}

impl Input {
    /// Opens the input that `options` names.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let format = options.resolved_format();
        if matches!(format, Format::Text | Format::Document) && (options.field.is_some() || options.id_field.is_some())
        {
            return Err(usage(format!(
                "{} is read as text lines, which have no fields: pass --input-format jsonl, csv or parquet, or leave --field and --id-field away",
                options.name()
            )));
        }
        let field = options.field.clone().unwrap_or_else(|| TEXT_FIELD.into());
        let position;
        let source: Box<dyn Source> = if format == Format::Parquet {
            let Some(path) = &options.path else {
                return Err(usage(
                    "Parquet is read from its end and cannot come through a pipe: give the file with -i",
                ));
            };
            let opened = open_parquet(path, &field, options.id_field.as_deref())?;
            position = Position { done: Arc::default(), total: opened.rows().map_or(0, |r| r.1) };
            opened
        } else {
            let (reader, total) = match &options.path {
                Some(path) => {
                    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                    let about = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
                    anyhow::ensure!(!about.is_dir(), "{} is a folder: give a file", path.display());
                    (Box::new(file) as Box<dyn Read + Send>, if about.is_file() { about.len() } else { 0 })
                }
                None => (Box::new(io::stdin()) as Box<dyn Read + Send>, 0),
            };
            position = Position { done: Arc::default(), total };
            let counted = Counted { inner: reader, done: Arc::clone(&position.done) };
            let mut reader = BufReader::with_capacity(256 << 10, counted);
            skip_byte_order_mark(&mut reader).with_context(|| format!("cannot read {}", options.name()))?;
            let name = options.name();
            match format {
                Format::Document => Box::new(document::Document::new(reader, name)),
                Format::Text => Box::new(lines::TextLines::new(reader, name)),
                Format::Jsonl => Box::new(jsonl::JsonLines::new(reader, name, field, options.id_field.clone())),
                Format::Csv => Box::new(csv::Table::new(reader, name, b',', &field, options.id_field.as_deref())?),
                Format::Tsv => Box::new(csv::Table::new(reader, name, b'\t', &field, options.id_field.as_deref())?),
                Format::Parquet => unreachable!("Parquet has been opened above"),
            }
        };
        Ok(Self {
            by_rows: source.rows().is_some(),
            source,
            position,
            bad: options.bad,
            skip_blank: options.skip_blank,
            rows: 0,
            split: None,
            chunks: VecDeque::new(),
            skipped: 0,
            repaired: 0,
            first_fault: None,
        })
    }

    /// The next record; nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Ok(Some(chunk));
        }
        loop {
            let record = match self.source.next(&mut self.repaired) {
                Ok(record) => record,
                Err(Fault::File(error)) => return Err(error),
                Err(Fault::Row(error)) => match self.bad {
                    Bad::Fail("") => return Err(error),
                    Bad::Fail(hint) => bail!("{error:#} ({hint})"),
                    Bad::Skip => {
                        self.skipped += 1;
                        self.first_fault.get_or_insert_with(|| format!("{error:#}"));
                        continue;
                    }
                },
            };
            if self.by_rows {
                let done = self.source.rows().map_or(0, |r| r.0);
                self.position.done.store(done, Ordering::Relaxed);
            }
            let Some(mut record) = record else { return Ok(None) };
            if self.skip_blank && record.text.trim().is_empty() {
                continue;
            }
            if let Id::Row(row) = &mut record.id {
                *row = self.rows;
            }
            self.rows += 1;
            if let Some(split) = &mut self.split {
                self.chunks = split(&record)?.into();
                return Ok(self.chunks.pop_front());
            }
            return Ok(Some(record));
        }
    }

    /// The next records that are embedded in one call, at least `fewest` where there are so many, bounded in number and bytes; none
    /// at the end of the input.
    pub(crate) fn batch(&mut self, fewest: usize) -> Result<Vec<Record>> {
        const MOST: usize = 512;
        const MOST_BYTES: usize = 4 << 20;
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < MOST.max(fewest) && bytes < MOST_BYTES {
            let Some(record) = self.next()? else { break };
            bytes += record.text.len();
            records.push(record);
        }
        Ok(records)
    }

    /// Texts that are there already.
    pub(crate) fn of_texts(texts: Vec<String>) -> Self {
        Self {
            source: Box::new(Given(texts.into_iter().enumerate())),
            position: Position::default(),
            by_rows: false,
            bad: Bad::Fail(""),
            skip_blank: false,
            rows: 0,
            split: None,
            chunks: VecDeque::new(),
            skipped: 0,
            repaired: 0,
            first_fault: None,
        }
    }

    /// The same input with the records of chunks in the place of each record.
    pub(crate) fn in_chunks(mut self, split: Option<Split>) -> Self {
        self.split = split;
        self
    }

    /// How far the input has been read.
    pub(crate) fn position(&self) -> Position {
        self.position.clone()
    }

    /// What ids are, where the file says it.
    pub(crate) fn id_type(&self) -> Option<IdType> {
        self.source.id_type()
    }
}

/// Reads a whole file as `embed -i FILE --on-error skip` does: the number of its records and of the rows left out. It is what the
/// fuzz targets call.
pub fn count(path: &Path) -> Result<(u64, u64)> {
    let mut input = Input::open(&Options {
        path: Some(path.to_owned()),
        format: None,
        field: None,
        id_field: None,
        bad: Bad::Skip,
        skip_blank: false,
    })?;
    while input.next()?.is_some() {}
    Ok((input.rows, input.skipped))
}

/// Texts of the command line.
struct Given(std::iter::Enumerate<std::vec::IntoIter<String>>);

impl Source for Given {
    fn next(&mut self, _repairs: &mut u64) -> Result<Option<Record>, Fault> {
        Ok(self.0.next().map(|(i, text)| Record { id: Id::Row(0), text, line: i as u64 + 1, place: None }))
    }
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, field: &str, id_field: Option<&str>) -> Result<Box<dyn Source>> {
    Ok(Box::new(parquet::Table::open(path, field, id_field)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(_: &Path, _: &str, _: Option<&str>) -> Result<Box<dyn Source>> {
    Err(usage("this embral was built without Parquet: build it with --features parquet, or give text, JSONL or CSV"))
}

/// A reader that says how many bytes went through it.
struct Counted<R> {
    inner: R,
    done: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.done.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Bytes of a text file, buffered and counted.
type Bytes = BufReader<Counted<Box<dyn Read + Send>>>;

fn skip_byte_order_mark(reader: &mut Bytes) -> io::Result<()> {
    if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(())
}

/// Bytes as text; those that are none become U+FFFD and count as one repair.
fn to_text(bytes: &[u8], repairs: &mut u64) -> String {
    match String::from_utf8_lossy(bytes) {
        std::borrow::Cow::Borrowed(text) => text.to_owned(),
        std::borrow::Cow::Owned(text) => {
            *repairs += 1;
            text
        }
    }
}

/// Names the fields that are there, for the message about one that is not.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return "none".into();
    }
    let more = names.len().saturating_sub(MOST);
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests;
