//! `embral calibrate`: the range of each component over a sample of texts, kept for vectors of 8 bits.

use crate::{
    flags::{self, ModelFlags},
    input::{self, Bad, Input},
    ranges,
};
use anyhow::Result;
use clap::Args;
use embral::quantize::Calibration;
use std::path::PathBuf;

/// Take the range of each component over a sample of texts, for vectors of 8 bits
#[derive(Args, Debug)]
#[command(
    after_help = "The ranges are kept in EMBRAL_HOME for vectors of this model, width, pooling, prompt and normalisation, and found
there by embral embed --output int8 and uint8 with the same flags. Take some hundred texts or more, of the kind
that will be embedded: what lies outside of a range becomes its end.

Examples:
  embral calibrate sample.txt
  embral calibrate sample.jsonl --field body -m all-MiniLM-L6-v2 --dims 128 -o ranges.json"
)]
pub(crate) struct Flags {
    /// The texts: text lines, JSONL, CSV, TSV or Parquet by the file's name; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the ranges to a file of this name instead
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The format of FILE [default: by its name]
    #[arg(long, value_enum, value_name = "FORMAT")]
    input_format: Option<input::Format>,
    /// The field or column of the text [default: text]
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    model: ModelFlags,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut input = Input::open(&input::Options {
        path: (flags.file.as_os_str() != "-").then(|| flags.file.clone()),
        format: flags.input_format,
        field: flags.field.clone(),
        id_field: None,
        bad: Bad::Fail(""),
        skip_blank: true,
    })?;
    let choice = flags.model.resolve();
    let embedder = choice.open(flags.quiet)?;
    let prompt = choice.prompt();
    flags::remind(embedder.info(), prompt, flags.quiet);
    let mut seen = Calibration::begin(&embedder, prompt)?;
    loop {
        let records = input.batch(embedder.texts_at_once())?;
        if records.is_empty() {
            break;
        }
        let texts: Vec<&str> = records.iter().map(|r| r.text.as_str()).collect();
        seen.add(&embedder.embed_batch_as(&texts, prompt)?)?;
    }
    let file = match &flags.out {
        Some(file) => file.clone(),
        None => seen.path()?,
    };
    ranges::write(&file, &seen, flags.quiet)?;
    if !flags.quiet {
        println!("{}: ranges of {} components from {} texts", file.display(), seen.dims, seen.texts);
    }
    Ok(())
}
