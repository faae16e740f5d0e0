//! The flags of `embral embed`, as typed.

use crate::{chunks::ChunkFlags, flags::ModelFlags, input, output};
use clap::{Args, ValueEnum};
use embral::quantize::Quantization;
use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

/// Turn texts into vectors
#[derive(Args, Debug)]
#[command(
    after_help = "Without TEXT and -i the texts are read from standard input, one a line. Vectors go to standard output:
shortened and readable at a terminal, JSON lines otherwise.

A run that is killed leaves OUT.partial and OUT.partial.json; the same command with --resume goes on
behind the last row that is safe on the disk.

Examples:
  embral embed \"a cat sat on the mat\" \"ein Hund\"
  embral embed -i texts.txt -o vectors.npy
  embral embed -i docs.jsonl --field body --id-field doc_id -o vectors.parquet --resume
  embral calibrate sample.txt
  embral embed -i texts.txt -o small.npy --output int8
  embral embed \"a cat sat on the mat\" --format jsonl --base64
  embral embed -i book.md --chunk markdown --chunk-size 200 --chunk-overlap 20 -o chunks.jsonl"
)]
pub(crate) struct Flags {
    /// Texts to embed
    #[arg(value_name = "TEXT", conflicts_with = "input")]
    pub(super) texts: Vec<String>,

    /// Read texts from a file; - is standard input
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    pub(super) input: Option<PathBuf>,
    /// The format of the input [default: by the file's name, else text]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Input")]
    pub(super) input_format: Option<input::Format>,
    /// The field or column of the text [default: text]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) field: Option<String>,
    /// The field or column of the id, kept beside its vector
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) id_field: Option<String>,
    /// What ids are in the output [default: as they are in the input]
    #[arg(long, value_enum, value_name = "KIND", requires = "id_field", help_heading = "Input")]
    pub(super) id_type: Option<IdKind>,
    /// Leave texts of nothing but white space out
    #[arg(long, help_heading = "Input")]
    pub(super) skip_blank: bool,
    /// What to do with a row that cannot be read: bad JSON, a missing field, null
    #[arg(long, value_enum, value_name = "WHAT", default_value = "fail", help_heading = "Input")]
    pub(super) on_error: OnError,

    /// Write vectors to a file; - is standard output
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) out: Option<PathBuf>,
    /// The format of the output [default: by the file's name]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Output")]
    pub(super) format: Option<output::Format>,
    /// The numbers of the output
    #[arg(long, value_enum, value_name = "KIND", default_value = "float", help_heading = "Output")]
    pub(super) output: Output,
    /// Write each vector as one text: base64 of its little-endian numbers (JSONL, CSV)
    #[arg(long, help_heading = "Output")]
    pub(super) base64: bool,
    /// The range of each component for --output int8 or uint8: a file of --save-ranges [default: what embral calibrate kept]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) ranges: Option<PathBuf>,
    /// Write the range of each component over this input, to calibrate --output int8 and uint8
    #[arg(long, value_name = "FILE", conflicts_with = "resume", help_heading = "Output")]
    pub(super) save_ranges: Option<PathBuf>,
    /// Write weights of vocabulary entries (SPLADE, bge-m3), as JSON lines
    #[arg(long, help_heading = "Output")]
    pub(super) sparse: bool,
    /// Write one vector a token (ColBERT, bge-m3), as JSON lines
    #[arg(long, help_heading = "Output")]
    pub(super) multi_vector: bool,
    /// Write the vector of the text as well, of the same pass (with --sparse or --multi-vector)
    #[arg(long, help_heading = "Output")]
    pub(super) dense: bool,
    /// Write each text beside its vector (JSONL, CSV, Parquet)
    #[arg(long, help_heading = "Output")]
    pub(super) with_text: bool,
    /// Go on with a run that was killed
    #[arg(long, conflicts_with = "overwrite", help_heading = "Output")]
    pub(super) resume: bool,
    /// Replace the output where it exists
    #[arg(short = 'f', long, help_heading = "Output")]
    pub(super) overwrite: bool,
    /// Rows of a Parquet row group
    #[arg(long, value_name = "ROWS", default_value = "8192", help_heading = "Output")]
    pub(super) row_group: NonZeroUsize,
    /// Seconds between two checkpoints of a run into a file
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, help_heading = "Output")]
    pub(super) checkpoint: Duration,

    /// Say nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Print where the time went
    #[arg(long)]
    pub(super) profile: bool,

    #[command(flatten)]
    pub(super) chunks: ChunkFlags,

    #[command(flatten)]
    pub(super) model: ModelFlags,
}

/// What ids are in the output, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum IdKind {
    /// 64-bit integers.
    Int,
    /// Strings.
    String,
}

/// What to do with a row that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnError {
    /// End the run with its line.
    Fail,
    /// Leave it out and count it.
    Skip,
}

/// The numbers of the output, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// 32-bit floats.
    Float,
    /// 16-bit floats.
    F16,
    /// One signed byte a component.
    Int8,
    /// One byte a component.
    Uint8,
    /// One bit a component, in signed bytes.
    Binary,
    /// One bit a component, in bytes.
    Ubinary,
}

impl Output {
    /// The form of fewer bits; none for floats.
    pub(super) fn quantization(self) -> Option<Quantization> {
        match self {
            Self::Float => None,
            Self::F16 => Some(Quantization::F16),
            Self::Int8 => Some(Quantization::Int8),
            Self::Uint8 => Some(Quantization::Uint8),
            Self::Binary => Some(Quantization::Binary),
            Self::Ubinary => Some(Quantization::Ubinary),
        }
    }
}

fn seconds(typed: &str) -> Result<Duration, String> {
    let seconds: f64 = typed.parse().map_err(|_| format!("{typed:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}
