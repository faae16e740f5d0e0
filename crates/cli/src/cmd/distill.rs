//! `embral distill`: making a small model out of a large one.

use crate::progress::{grouped, span};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use embral_compress::{
    Progress,
    static_distill::{self, Options, Refinement},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{IsTerminal, Write},
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Make a small model out of a large one
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Static(Box<StaticFlags>),
}

/// Distil a table of token vectors that answers as a transformer does, thousands of times faster
#[derive(Args, Debug)]
#[command(
    after_help = "Writes a model folder that embral and sentence-transformers open, with report.json and report.md. The same
files, flags and kind of CPU give the same bytes.

Example:
  embral distill static --teacher all-MiniLM-L6-v2 --corpus corpus/ -o my-model --cache teacher-vectors"
)]
struct StaticFlags {
    /// The model to learn from: a folder or a name
    #[arg(long, value_name = "MODEL")]
    teacher: PathBuf,
    /// Texts to learn on: files with a text a line, or folders of .txt files
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    corpus: Vec<PathBuf>,
    /// Texts that belong together: files of JSON lines with q and p, or folders of .jsonl files
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pairs: Vec<PathBuf>,
    /// The folder to write
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Components of a vector
    #[arg(long, value_name = "N", default_value = "256")]
    dims: NonZeroUsize,
    /// The most bytes of the table
    #[arg(long, value_name = "BYTES", default_value = "8000000")]
    bytes: usize,
    /// Passes over the corpus that refine the table; 0 leaves it as it starts [default: 6]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Seed of everything that is drawn by chance
    #[arg(long, value_name = "N", default_value = "17")]
    seed: u64,
    /// Keep the teacher's vectors here between runs
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Threads that work [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Score on similarity sets: tab-separated files with score, s1 and s2
    #[arg(long, value_name = "FILE", num_args = 1..)]
    sts: Vec<PathBuf>,
    /// Score on retrieval sets: BEIR folders, each with the split after a colon
    #[arg(long, value_name = "FOLDER:SPLIT", num_args = 1..)]
    retrieval: Vec<String>,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let What::Static(flags) = &flags.what;
    let retrieval = flags.retrieval.iter().map(|set| match set.rsplit_once(':') {
        Some((folder, split)) if !folder.is_empty() && !split.is_empty() => Ok((folder.into(), split.to_owned())),
        _ => bail!(crate::failure::usage(format!("--retrieval {set}: give FOLDER:SPLIT, such as scifact:test"))),
    });
    let standard = Refinement::default();
    let options = Options {
        teacher: flags.teacher.clone(),
        corpus: flags.corpus.clone(),
        pairs: flags.pairs.clone(),
        output: flags.out.clone(),
        dims: flags.dims.get(),
        bytes: flags.bytes,
        threads: flags.threads.map(NonZeroUsize::get),
        seed: flags.seed,
        cache: flags.cache.clone(),
        refinement: Refinement { epochs: flags.epochs.unwrap_or(standard.epochs), ..standard },
        sts: flags.sts.clone(),
        retrieval: retrieval.collect::<Result<_>>()?,
        ..Options::default()
    };
    let mut stages = Stages::new();
    let report = static_distill::run(&options, &mut stages)?;
    stages.close();
    Ok(std::io::stdout().write_all(report.markdown().as_bytes())?)
}

/// Between two lines of a log.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar a stage at a terminal, lines in a log.
struct Stages {
    terminal: bool,
    bar: Option<ProgressBar>,
    stage: String,
    steps: u64,
    done: u64,
    started: Instant,
    said: Instant,
}

impl Stages {
    fn new() -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, bar: None, stage: String::new(), steps: 0, done: 0, started: now, said: now }
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Stages {
    fn begin(&mut self, stage: &str, steps: u64, unit: &str) {
        self.close();
        let now = Instant::now();
        (self.stage, self.steps, self.done) = (stage.to_owned(), steps, 0);
        (self.started, self.said) = (now, now);
        if self.terminal {
            let bar = ProgressBar::new(steps);
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
            let template =
                format!("{{msg}} {{bar:24}} {{percent:>3}} %  {{human_pos}} of {{human_len}} {unit}, {{eta}} left");
            let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
            bar.set_style(style.progress_chars("=> "));
            bar.set_message(stage.to_owned());
            self.bar = Some(bar);
        } else {
            eprintln!("embral: {stage}: {} {unit}", grouped(steps));
        }
    }

    fn advance(&mut self, steps: u64) {
        self.done += steps;
        match &self.bar {
            Some(bar) => bar.inc(steps),
            None if !self.terminal && self.said.elapsed() >= LINE_EVERY && self.done > 0 => {
                self.said = Instant::now();
                let left = self.steps.saturating_sub(self.done) as f64 / self.done as f64;
                let left = span(self.started.elapsed().as_secs_f64() * left);
                eprintln!("embral: {}: {} of {}, {left} left", self.stage, grouped(self.done), grouped(self.steps));
            }
            None => {}
        }
    }

    fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("embral: {line}")),
            None => eprintln!("embral: {line}"),
        }
    }
}
