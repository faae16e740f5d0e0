//! Vectors into files: each format appends bytes, row by row, so that a stopped run can go on where its last whole rows end.

mod csv;
mod jsonl;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod partial;
mod short;
mod writer;

pub(crate) use npy::npy;
pub(crate) use partial::{Found, Journal, Names, Partial};
pub(crate) use short::one_line;
pub(crate) use writer::{Begin, Writer, standard_output};

use crate::input::{Id, IdType, Record};
use anyhow::{Result, bail};
use embral::{
    base64,
    quantize::{Quantization, Quantized},
};
use half::f16;
use std::{fs::File, path::Path};

/// A file format of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A shortened vector and its text, for reading.
    Short,
    /// One JSON object a line.
    Jsonl,
    /// A header line, then one column a component.
    Csv,
    /// NumPy: one array [rows, dimensions].
    Npy,
    /// Apache Parquet: a column of fixed-size lists.
    Parquet,
    /// The components alone, little-endian, without a header.
    Raw,
}

impl Format {
    /// The format of a file by the end of its name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Self::Jsonl,
            "csv" => Self::Csv,
            "npy" => Self::Npy,
            "parquet" | "pq" => Self::Parquet,
            "raw" | "bin" | "f32" => Self::Raw,
            _ => return None,
        })
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Npy => "npy",
            Self::Parquet => "parquet",
            Self::Raw => "raw",
        }
    }
}

/// The numbers that a vector is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
}

/// Vectors of equal width, row after row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Vectors {
    /// Floats.
    F32(Vec<f32>),
    /// Floats of 16 bits.
    F16(Vec<f16>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// What is no row of numbers: members of a JSON object, which only JSON lines take.
    Members(Vec<String>),
}

impl From<Quantized> for Vectors {
    fn from(quantized: Quantized) -> Self {
        let form = quantized.form();
        let bytes = quantized.into_bytes();
        match form {
            Quantization::F16 => Self::F16(bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b)).collect()),
            Quantization::Int8 | Quantization::Binary => Self::I8(bytes.into_iter().map(u8::cast_signed).collect()),
            Quantization::Uint8 | Quantization::Ubinary => Self::U8(bytes),
        }
    }
}

impl Number {
    /// The numbers of a form of fewer bits.
    pub(crate) fn of(form: Quantization) -> Self {
        match form {
            Quantization::F16 => Self::F16,
            Quantization::Int8 | Quantization::Binary => Self::I8,
            Quantization::Uint8 | Quantization::Ubinary => Self::U8,
        }
    }
}

impl Vectors {
    /// No vectors.
    #[cfg(feature = "parquet")]
    fn empty(number: Number) -> Self {
        match number {
            Number::F32 => Self::F32(Vec::new()),
            Number::F16 => Self::F16(Vec::new()),
            Number::I8 => Self::I8(Vec::new()),
            Number::U8 => Self::U8(Vec::new()),
        }
    }

    /// A range of the numbers, little-endian.
    fn bytes(&self, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
        match self {
            Self::F32(v) => v[range].iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
            Self::F16(v) => v[range].iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
            Self::I8(v) => out.extend(v[range].iter().map(|x| x.cast_unsigned())),
            Self::U8(v) => out.extend_from_slice(&v[range]),
            Self::Members(_) => unreachable!("members of objects are written as JSON lines"),
        }
    }

    /// One row in base64.
    fn base64(&self, row: std::ops::Range<usize>, out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        self.bytes(row, &mut bytes);
        out.extend_from_slice(base64::encode_bytes(&bytes).as_bytes());
    }

    /// One row as JSON numbers.
    fn json(&self, row: std::ops::Range<usize>, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::F32(v) => serde_json::to_writer(out, &v[row])?,
            Self::F16(v) => serde_json::to_writer(out, &v[row].iter().map(|x| x.to_f32()).collect::<Vec<_>>())?,
            Self::I8(v) => serde_json::to_writer(out, &v[row])?,
            Self::U8(v) => serde_json::to_writer(out, &v[row])?,
            Self::Members(_) => unreachable!("members of objects are no row of numbers"),
        }
        Ok(())
    }
}

/// What every row of an output has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Components of a vector.
    pub(crate) width: usize,
    /// Their numbers.
    pub(crate) number: Number,
    /// Whether rows have ids of the input; they are counted where not.
    pub(crate) ids: bool,
    /// What those ids are, where that is known before the first row.
    pub(crate) id_type: Option<IdType>,
    /// Whether the text is written beside its vector.
    pub(crate) text: bool,
    /// Whether rows are chunks of documents, with the place where they lie.
    pub(crate) chunks: bool,
    /// Whether a vector is one text of base64 rather than numbers.
    pub(crate) base64: bool,
}

/// Rows as the writer hands them on: `records.len()` vectors from row `first` of `vectors`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) vectors: &'a Vectors,
    pub(crate) first: usize,
}

/// One format: turns rows into bytes that are appended to the output.
trait Encode: Send {
    /// The bytes before the first row.
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// Takes rows and appends their bytes, or keeps them until the group is full.
    fn rows(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<()>;

    /// The number of rows that are written together; one where each row stands alone.
    fn group(&self) -> usize {
        1
    }

    /// Appends the rows that are kept.
    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// Takes up the state that `rows` rows in the `bytes` bytes of `file` left.
    fn resume(&mut self, _file: &mut File, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// The bytes after the last row, and bytes that replace those at the start of the output.
    fn end(&mut self, rows: u64, out: &mut Vec<u8>) -> Result<Option<Vec<u8>>>;
}

/// The encoder of a format.
fn encoder(format: Format, layout: Layout, group: usize) -> Result<Box<dyn Encode>> {
    Ok(match format {
        Format::Short => Box::new(short::Short::new(layout)),
        Format::Jsonl => Box::new(jsonl::JsonLines::new(layout)),
        Format::Csv => Box::new(csv::Table::new(layout)),
        Format::Npy => Box::new(npy::Array::with_header(layout)),
        Format::Raw => Box::new(npy::Array::headless(layout)),
        #[cfg(feature = "parquet")]
        Format::Parquet => Box::new(parquet::Table::new(layout, group)?),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => {
            let _ = group;
            bail!(
                "this embral was built without Parquet: build it with --features parquet, or write JSONL, CSV or .npy"
            )
        }
    })
}

/// An id as an integer column takes it.
fn integer(record: &Record) -> Result<i64> {
    match &record.id {
        Id::Int(n) => Ok(*n),
        Id::Row(n) => Ok(i64::try_from(*n)?),
        Id::Text(s) | Id::Json(s) => match s.trim().parse() {
            Ok(n) => Ok(n),
            Err(_) => bail!("line {}: the id {s:?} is no integer: pass --id-type string", record.line),
        },
    }
}

/// An id as a string column takes it.
fn text(id: &Id) -> String {
    match id {
        Id::Row(n) => n.to_string(),
        Id::Int(n) => n.to_string(),
        Id::Text(s) | Id::Json(s) => s.clone(),
    }
}

#[cfg(test)]
mod tests;
