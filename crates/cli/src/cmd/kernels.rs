//! `embral kernels`: how fast each variant of each kernel is on this machine.

use crate::flags;
use anyhow::Result;
use clap::Args;
use embral::{Config, default_model};
use embral_bench::kernels::{self, Options, Shapes};
use std::{io::Write as _, num::NonZeroUsize, time::Duration};

/// Time every variant of every kernel on this CPU, and print what part of its peak it reaches
#[derive(Args, Debug)]
#[command(
    after_help = "The peak of an instruction is measured in the same run, by a loop that touches no memory. Numbers are made up: no
weights are read. A star marks what embral takes by itself. Other work on the machine makes all figures smaller.

Example:
  embral kernels --model all-MiniLM-L6-v2 --threads 1"
)]
pub(crate) struct Flags {
    /// Take the shapes of this model: a folder or a name [default: all-MiniLM-L6-v2, which need not be there]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<String>,
    /// Threads that work [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// The most tokens of one batch [default: 2048, with --quick 512]
    #[arg(long, value_name = "N")]
    tokens: Option<NonZeroUsize>,
    /// Measure for seconds, not for a minute: less exact
    #[arg(long)]
    quick: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Time of one measurement, of which there are about 300 on a machine with AVX-512.
const BUDGET: Duration = Duration::from_millis(80);
const QUICK_BUDGET: Duration = Duration::from_millis(5);

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let standard = if flags.quick { 512 } else { 2048 };
    let options = Options {
        threads: flags.threads.map(NonZeroUsize::get),
        tokens: flags.tokens.map_or(standard, NonZeroUsize::get),
        budget: if flags.quick { QUICK_BUDGET } else { BUDGET },
    };
    let report = kernels::run(&options, &shapes(flags.model.as_deref())?);
    let out = if flags.json { report.to_json() } else { report.to_string() };
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

fn shapes(model: Option<&str>) -> Result<Shapes> {
    let name = model.unwrap_or(default_model::NAME);
    match flags::fetch(&Config::model(name))? {
        None => Ok(instead("the default model")),
        Some(folder) => Ok(Shapes::of_folder(&folder, name)?.unwrap_or_else(|| instead(name))),
    }
}

/// The shapes for a model that has no products; says so.
fn instead(model: &str) -> Shapes {
    let shapes = Shapes::minilm();
    eprintln!("embral: {model} is static and has no matrix products: these are the shapes of {}", shapes.name);
    shapes
}
