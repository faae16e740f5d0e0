//! `embral bench`: measuring a model, or a server, on the machine at hand.

#[cfg(feature = "server-load")]
mod server;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use embral::Precision;
use embral_bench::texts;
use std::{
    fs,
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// Measure a model or an embedding server on this machine
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Texts(TextsFlags),
    #[cfg(feature = "server-load")]
    Server(server::Flags),
}

/// Embed the lines of a file several times and print the speed, tokenisation included, and the stages that took the time
#[derive(Args, Debug)]
#[command(after_help = "The model is loaded once and warmed up. Lines of nothing but white space are left out.

Example:
  embral bench texts --texts queries.txt --batch-size 32 --rounds 5")]
struct TextsFlags {
    /// The texts, one a line
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// The model: a folder, a name or the address of a server [default: the model inside embral]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,
    /// The numbers in which the model is computed: f32, bf16 or int8
    #[arg(long, value_name = "KIND", default_value = "f32")]
    precision: Precision,
    /// Threads that work [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Texts a call
    #[arg(long, value_name = "N", default_value = "32")]
    batch_size: NonZeroUsize,
    /// The longest text in tokens [default: the model's limit]
    #[arg(long, value_name = "N")]
    max_tokens: Option<NonZeroUsize>,
    /// Neither use nor keep packed weights in the cache folder, as EMBRAL_PACKED_CACHE=0 does
    #[arg(long)]
    no_packed_cache: bool,
    /// How often all of the texts are embedded
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroUsize,
    /// Take the first N texts only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the vectors of the last round, float32, in input order
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    match &flags.what {
        What::Texts(flags) => measure_texts(flags),
        #[cfg(feature = "server-load")]
        What::Server(flags) => server::run(flags),
    }
}

fn measure_texts(flags: &TextsFlags) -> Result<()> {
    let lines = texts::read_lines(&flags.texts, flags.limit)?;
    let report = texts::run(
        &texts::Options {
            model: flags.model.clone(),
            precision: flags.precision,
            threads: flags.threads.map(NonZeroUsize::get),
            batch_size: flags.batch_size.get(),
            max_tokens: flags.max_tokens.map(NonZeroUsize::get),
            rounds: flags.rounds.get(),
            packed_cache: !flags.no_packed_cache,
        },
        &lines,
    )?;
    if let Some(path) = &flags.json {
        fs::write(path, report.to_json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &flags.npy {
        write_npy(path, &report.vectors)?;
    }
    Ok(writeln!(std::io::stdout(), "{report}")?)
}

fn write_npy(path: &Path, vectors: &embral::Embeddings) -> Result<()> {
    fs::write(path, crate::output::npy(vectors.clone())).with_context(|| format!("cannot write {}", path.display()))
}
