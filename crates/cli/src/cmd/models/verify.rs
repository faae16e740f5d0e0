//! `embral models verify`: whether a model gives the vectors that it should.

use crate::flags;
use anyhow::{Result, bail};
use clap::Args;
use embral::{
    Config, Precision,
    verify::{self, Difference, Reference, Report},
};
use std::{fmt::Write as _, io::Write as _, num::NonZeroUsize, path::PathBuf};

/// How many differences are printed.
const SHOWN: usize = 5;

/// Compare the vectors of a model with reference vectors, and say where they differ and why
#[derive(Args, Debug)]
#[command(after_help = "Exit code: 0 where everything is equal, 1 where something differs.

Examples:
  embral models verify
  embral models verify all-MiniLM-L6-v2 --precision int8
  embral models verify ./my-model --reference reference.json")]
pub(super) struct Flags {
    /// A folder, a name or a preset [default: the model inside embral]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Vectors that something else has made, as docs/make_reference.py writes them [default: embral-reference.json in the folder
    /// of the model, or those inside embral]
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// The numbers in which the model is computed: f32, bf16 or int8
    #[arg(long, value_name = "KIND", default_value = "f32")]
    precision: Precision,
    /// Keep the first N components, as those of the reference were kept
    #[arg(long, value_name = "N")]
    dims: Option<NonZeroUsize>,
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

pub(super) fn run(flags: &Flags) -> Result<()> {
    let config = Config {
        model: flags.name.clone(),
        precision: flags.precision,
        dims: flags.dims.map(NonZeroUsize::get),
        offline: flags.offline,
        threads: flags.threads.map(NonZeroUsize::get),
        ..Config::default()
    };
    let reference = flags.reference.as_deref().map(Reference::read).transpose()?;
    if !config.is_remote() {
        flags::fetch(&config)?;
    }
    let report = verify::run(&config, reference)?;
    let out = if flags.json { serde_json::to_string_pretty(&json(&report))? + "\n" } else { table(&report)? };
    std::io::stdout().write_all(out.as_bytes())?;
    if !report.is_equal() {
        bail!("{} differs from its reference", report.model);
    }
    Ok(())
}

fn json(r: &Report) -> serde_json::Value {
    use serde_json::json;
    let difference = |d: &Difference| {
        json!({ "set": d.set, "index": d.index, "text": d.text, "cosine": d.cosine, "component": d.component,
            "expected": d.expected, "found": d.found })
    };
    json!({
        "model": r.model,
        "precision": r.precision.name(),
        "reference": r.reference.0,
        "made_with": r.reference.1,
        "equal": r.is_equal(),
        "texts": r.texts,
        "dimensions": r.dimensions,
        "max_abs": r.max_abs,
        "min_cosine": r.min_cosine,
        "tolerance": { "max_abs": r.tolerance.max_abs, "cosine": r.tolerance.cosine },
        "differences": r.differences.iter().map(difference).collect::<Vec<_>>(),
        "causes": r.causes,
        "company": r.company,
    })
}

fn table(r: &Report) -> Result<String> {
    let mut out = String::new();
    let mut row = |key: &str, value: &str| writeln!(out, "{key:<12}  {value}");
    let verdict = if r.is_equal() { "equal".to_owned() } else { "DIFFERS".to_owned() };
    row("model", &format!("{} in {}", r.model, r.precision))?;
    let made = if r.reference.1.is_empty() { String::new() } else { format!(" ({})", r.reference.1) };
    row("reference", &format!("{}{made}", r.reference.0))?;
    row("result", &verdict)?;
    row("compared", &format!("{} vectors of {} components", r.texts, r.dimensions))?;
    let most = r.tolerance.max_abs.map_or_else(String::new, |most| format!(", at most {most:.0e}"));
    row("max abs", &format!("{:.1e}{most}", r.max_abs))?;
    row("min cosine", &format!("1 - {:.1e}, at least 1 - {:.0e}", 1.0 - r.min_cosine, 1.0 - r.tolerance.cosine))?;
    let company = match &r.company[..] {
        [] => "the same, bit for bit, alone and in any order".to_owned(),
        some => {
            format!("{} of {} vectors are others alone or in another order: {}", some.len(), r.texts, brief(&some[0]))
        }
    };
    row("company", &company)?;
    for d in r.differences.iter().take(SHOWN) {
        row("differs", &format!("set {}, text {}: {}", d.set, d.index, brief(&d.text)))?;
        let place =
            format!("cosine {:.6}; component {}: expected {}, found {}", d.cosine, d.component, d.expected, d.found);
        row("", &place)?;
    }
    if r.differences.len() > SHOWN {
        row("", &format!("and {} more", r.differences.len() - SHOWN))?;
    }
    for cause in &r.causes {
        row("cause", cause)?;
    }
    if !r.differences.is_empty() && r.causes.is_empty() {
        row(
            "cause",
            "unknown: no other pooling, prompt, limit or normalisation explains it; the weights may be others",
        )?;
    }
    Ok(out)
}

/// The beginning of a text, in quotes.
fn brief(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}
