//! `embral inspect`: where the loss of a precision comes from.

use crate::flags;
use anyhow::Result;
use clap::Args;
use embral::{
    Config, Precision,
    inspect::{self, Cosine, Report},
};
use std::{fmt::Write as _, io::Write as _, num::NonZeroUsize, path::PathBuf};

/// Print where a precision loses: each part of each layer by itself, and all together, against f32
#[derive(Args, Debug)]
#[command(
    after_help = "Errors are the norm of the difference from f32 over the norm of f32, of the rows behind a layer. Vectors are compared
by their cosine with those of f32.

Example:
  embral inspect --model all-MiniLM-L6-v2 --precision int8"
)]
pub(crate) struct Flags {
    /// The model: a folder or a name; a transformer
    #[arg(short, long, value_name = "MODEL")]
    model: String,
    /// The numbers that are inspected: bf16 or int8
    #[arg(long, value_name = "KIND", default_value = "int8")]
    precision: Precision,
    /// The texts to look at, one a line [default: a dozen inside embral, in English]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Never touch the network, as HF_HUB_OFFLINE=1 does
    #[arg(long)]
    offline: bool,
    /// Threads that work [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let texts = match &flags.texts {
        Some(path) => embral_bench::texts::read_lines(path, None)?,
        None => inspect::TEXTS.map(str::to_owned).to_vec(),
    };
    let config = Config {
        precision: flags.precision,
        threads: flags.threads.map(NonZeroUsize::get),
        offline: flags.offline,
        ..Config::model(&flags.model)
    };
    flags::fetch(&config)?;
    let report = inspect::run(&config, &texts)?;
    let out = if flags.json { serde_json::to_string_pretty(&json(&report))? + "\n" } else { table(&report)? };
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

fn json(r: &Report) -> serde_json::Value {
    use serde_json::json;
    let cosine = |c: Cosine| json!({ "min": c.min, "mean": c.mean });
    let layer = |l: &inspect::LayerLoss| {
        let part = |p: &inspect::PartLoss| json!({ "part": p.part, "error": p.error, "cosine": cosine(p.cosine), "outlier": p.outlier });
        json!({ "parts": l.parts.iter().map(part).collect::<Vec<_>>(), "total": l.total })
    };
    let kept = |k: &inspect::Kept| json!({ "layer": k.layer, "part": k.part, "precision": k.precision.name(), "cosine": cosine(k.cosine) });
    json!({
        "model": r.model,
        "precision": r.precision.name(),
        "texts": r.texts,
        "tokens": r.tokens,
        "layers": r.layers.iter().map(layer).collect::<Vec<_>>(),
        "cosine": cosine(r.cosine),
        "worst": r.worst.iter().map(kept).collect::<Vec<_>>(),
    })
}

fn table(r: &Report) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "{} in {} against f32: {} texts, {} tokens", r.model, r.precision, r.texts, r.tokens)?;
    let parts = r.layers.first().map_or(&[][..], |l| &l.parts);
    let mut block = |title: &str, last: &str, cell: &dyn Fn(&inspect::PartLoss) -> String, total: Total<'_>| {
        write!(out, "\n{title}\nlayer")?;
        for part in parts {
            write!(out, "  {:>9}", part.part)?;
        }
        writeln!(out, "  {last}")?;
        for (i, layer) in r.layers.iter().enumerate() {
            write!(out, "{i:>5}")?;
            for part in &layer.parts {
                write!(out, "  {:>9}", cell(part))?;
            }
            writeln!(out, "  {:>width$}", total(layer), width = last.len())?;
        }
        anyhow::Ok(())
    };
    let percent = |error: f64| format!("{:.3} %", 100.0 * error);
    block(
        &format!("error of the rows behind a layer, one part alone in {}, and with all parts up to here", r.precision),
        "all up to here",
        &|part| percent(part.error),
        &|layer| percent(layer.total),
    )?;
    block(
        &format!("1 - cosine of the vectors, in millionths (mean), one part alone in {}", r.precision),
        "",
        &|part| format!("{:.1}", 1e6 * (1.0 - part.cosine.mean)),
        &|_| String::new(),
    )?;
    block(
        "largest weight of an output over the mean size of its weights",
        "",
        &|part| part.outlier.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}")),
        &|_| String::new(),
    )?;
    let cosine = |c: Cosine| format!("cosine min {:.6}, mean {:.6}", c.min, c.mean);
    writeln!(out, "\n{:<34}{}", format!("everything in {}", r.precision), cosine(r.cosine))?;
    for k in &r.worst {
        let flag = format!("--part-precision {}.{}={}", k.layer, k.part, k.precision);
        writeln!(out, "{flag:<34}{}", cosine(k.cosine))?;
    }
    Ok(out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n")
}

/// The last cell of a line.
type Total<'a> = &'a dyn Fn(&inspect::LayerLoss) -> String;
