//! `embral embed`: texts in, vectors out.

use crate::{
    chunks::{ChunkFlags, Chunks},
    failure::usage,
    flags::{self, ModelChoice, ModelFlags},
    input::{self, Bad, Input, Record},
    output::{self, Begin, Found, Journal, Layout, Names, Number, Partial, Vectors, Writer},
    pipeline::{Done, Leftovers, Run},
    progress::{Progress, Voice, grouped},
    ranges,
};
use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use embral::{
    Embedder, ErrorKind, Profile, Prompt,
    quantize::{Calibration, Quantization, Ranges, quantize},
};
use std::{
    collections::BTreeMap,
    fs,
    io::IsTerminal,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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
    texts: Vec<String>,

    /// Read texts from a file; - is standard input
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    input: Option<PathBuf>,
    /// The format of the input [default: by the file's name, else text]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Input")]
    input_format: Option<input::Format>,
    /// The field or column of the text [default: text]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) field: Option<String>,
    /// The field or column of the id, kept beside its vector
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) id_field: Option<String>,
    /// What ids are in the output [default: as they are in the input]
    #[arg(long, value_enum, value_name = "KIND", requires = "id_field", help_heading = "Input")]
    id_type: Option<IdKind>,
    /// Leave texts of nothing but white space out
    #[arg(long, help_heading = "Input")]
    pub(super) skip_blank: bool,
    /// What to do with a row that cannot be read: bad JSON, a missing field, null
    #[arg(long, value_enum, value_name = "WHAT", default_value = "fail", help_heading = "Input")]
    on_error: OnError,

    /// Write vectors to a file; - is standard output
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,
    /// The format of the output [default: by the file's name]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Output")]
    pub(super) format: Option<output::Format>,
    /// The numbers of the output
    #[arg(long, value_enum, value_name = "KIND", default_value = "float", help_heading = "Output")]
    output: Output,
    /// Write each vector as one text: base64 of its little-endian numbers (JSONL, CSV)
    #[arg(long, help_heading = "Output")]
    pub(super) base64: bool,
    /// The range of each component for --output int8 or uint8: a file of --save-ranges [default: what embral calibrate kept]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    ranges: Option<PathBuf>,
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
    row_group: NonZeroUsize,
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
    chunks: ChunkFlags,

    #[command(flatten)]
    model: ModelFlags,
}

/// What ids are in the output, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IdKind {
    /// 64-bit integers.
    Int,
    /// Strings.
    String,
}

/// What to do with a row that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// End the run with its line.
    Fail,
    /// Leave it out and count it.
    Skip,
}

/// The numbers of the output, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
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
    fn quantization(self) -> Option<Quantization> {
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

/// Where texts come from.
pub(super) enum From<'a> {
    Texts(&'a [String]),
    Input(input::Options),
}

/// Where vectors go.
pub(super) enum To {
    /// Nowhere: only the ranges are wanted.
    Nothing,
    Stdout,
    /// A pipe or a device.
    Device(PathBuf),
    File(Names),
}

/// The flags, resolved.
pub(super) struct Plan<'a> {
    pub(super) from: From<'a>,
    pub(super) to: To,
    pub(super) format: output::Format,
    pub(super) quantization: Option<Quantization>,
    pub(super) chunks: Option<Chunks>,
    pub(super) model: ModelChoice,
}

impl Flags {
    /// What ids are in the output.
    pub(super) fn id_type(&self, input: &Input) -> Option<input::IdType> {
        match self.id_type {
            Some(IdKind::Int) => Some(input::IdType::Int64),
            Some(IdKind::String) => Some(input::IdType::Text),
            None => input.id_type(),
        }
    }

    /// What is there of the output already, the input, and who is told of the progress; nothing where the output is complete.
    pub(super) fn start(&self, plan: &Plan<'_>) -> Result<Option<(Found, Input, Voice)>> {
        let found = match &plan.to {
            To::File(names) => names.find(self.resume, self.overwrite)?,
            _ => Found::Nothing,
        };
        if matches!(found, Found::Complete) {
            if let (To::File(names), false) = (&plan.to, self.quiet) {
                eprintln!(
                    "embral: {} is complete: nothing to resume (--overwrite writes it again)",
                    names.out.display()
                );
            }
            return Ok(None);
        }
        let (input, voice) = match &plan.from {
            From::Texts(texts) => (Input::of_texts(texts.to_vec()), Voice::Quiet),
            From::Input(options) => (Input::open(options)?, Voice::fitting(self.quiet)),
        };
        Ok(Some((found, input, voice)))
    }

    pub(super) fn plan(&self) -> Result<Plan<'_>> {
        let from = if self.input.is_none() && !self.texts.is_empty() {
            if self.id_field.is_some() || self.field.is_some() || self.input_format.is_some() {
                return Err(usage("--field, --id-field and --input-format are about a file: give one with -i"));
            }
            From::Texts(&self.texts)
        } else {
            let path = self.input.clone().filter(|p| p.as_os_str() != "-");
            if self.input.is_none() && std::io::stdin().is_terminal() {
                return Err(usage(
                    "no text: give TEXT, a file with -i, or a pipe (embral embed --help shows examples)",
                ));
            }
            let mut options = input::Options {
                path,
                format: self.input_format,
                field: self.field.clone(),
                id_field: self.id_field.clone(),
                bad: match self.on_error {
                    OnError::Fail => Bad::Fail("mend it, or pass --on-error skip"),
                    OnError::Skip => Bad::Skip,
                },
                skip_blank: self.skip_blank,
            };
            // A text that is cut is a file rather than a line.
            if self.chunks.resolve().is_some() && options.resolved_format() == input::Format::Text {
                options.format.get_or_insert(input::Format::Document);
            }
            From::Input(options)
        };
        let to = match self.out.as_deref() {
            None if self.save_ranges.is_some() => To::Nothing,
            None => To::Stdout,
            Some(path) if path.as_os_str() == "-" => To::Stdout,
            Some(path) if fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) => To::Device(path.to_owned()),
            Some(path) if path.is_dir() => {
                return Err(usage(format!("-o {} is a folder: name a file", path.display())));
            }
            Some(path) => To::File(Names::new(path)),
        };
        let format = match (&to, self.format) {
            (_, Some(format)) => format,
            (To::File(names), None) => output::Format::of(&names.out).ok_or_else(|| {
                usage(format!(
                    "{}: no format by this name: end it with .jsonl, .csv, .npy, .parquet or .raw, or pass --format",
                    names.out.display()
                ))
            })?,
            (To::Stdout, None) if std::io::stdout().is_terminal() => output::Format::Short,
            (_, None) => output::Format::Jsonl,
        };
        if self.resume && !matches!(to, To::File(_)) {
            return Err(usage("--resume goes on with an output file: name it with -o"));
        }
        if self.with_text && matches!(format, output::Format::Npy | output::Format::Raw) {
            return Err(usage(format!(
                "--with-text: {} holds numbers alone: write JSONL, CSV or Parquet",
                format.name()
            )));
        }
        let quantization = self.output.quantization();
        if self.base64 && !matches!(format, output::Format::Jsonl | output::Format::Csv) {
            return Err(usage(format!(
                "--base64 is text, for JSONL and CSV: {} holds the bytes themselves",
                format.name()
            )));
        }
        if self.ranges.is_some() && !quantization.is_some_and(Quantization::needs_ranges) {
            return Err(usage("--ranges belongs to --output int8 or uint8"));
        }
        let chunks = self.chunks.resolve();
        if let Some(chunks) = chunks {
            chunks.ensure_fits(format)?;
            if self.profile && chunks.has_no_profile() {
                return Err(usage("--profile tells the stages of texts and chunks, not of --late and --aggregate"));
            }
        }
        Ok(Plan { from, to, format, quantization, chunks, model: self.model.resolve() })
    }

    /// What a run must share with the one that it goes on with.
    fn settings(
        &self,
        embedder: &Embedder,
        prompt: &str,
        plan: &Plan<'_>,
        ranges: Option<&Ranges>,
    ) -> BTreeMap<String, String> {
        let info = embedder.info();
        let mut settings = BTreeMap::new();
        let mut set = |flag: &str, value: String| {
            settings.insert(flag.to_owned(), value);
        };
        set("--dims", info.dimensions.to_string());
        set("--pooling", info.pooling.to_string());
        set("--no-normalize", (!info.normalize).to_string());
        set("--max-tokens", embedder.max_tokens().to_string());
        set("--truncate", plan.model.config.truncation.to_string());
        set("--precision", info.precision.to_string());
        set("--prompt", format!("{prompt:?}"));
        set("--format", plan.format.name().to_owned());
        set("--output", plan.quantization.map_or("float", Quantization::name).to_owned());
        set("--base64", self.base64.to_string());
        set("--with-text", self.with_text.to_string());
        set("--skip-blank", self.skip_blank.to_string());
        set("--on-error", format!("{:?}", self.on_error).to_lowercase());
        set("--field", self.field.clone().unwrap_or_default());
        set("--id-field", self.id_field.clone().unwrap_or_default());
        set("--id-type", self.id_type.map_or_else(String::new, |k| format!("{k:?}").to_lowercase()));
        self.chunks.settings(&mut settings);
        let mut set = |flag: &str, value: String| {
            settings.insert(flag.to_owned(), value);
        };
        if let From::Input(options) = &plan.from {
            set("--input-format", format!("{:?}", options.resolved_format()).to_lowercase());
        }
        if plan.format == output::Format::Parquet {
            set("--row-group", self.row_group.to_string());
        }
        if let Some(ranges) = ranges {
            set("--ranges", format!("{:?} {:?}", ranges.min(), ranges.max()));
        }
        settings
    }
}

/// Set by the first interrupt of a run into a file.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// The text whose vector a resumed run is compared by.
const PROBE: &str = "The same model gives this sentence the same vector.";
/// Components of it that are kept.
const PROBE_COMPONENTS: usize = 16;

/// Makes the first interrupt end the run at the next chunk; a second one does not wait for it.
pub(super) fn watch_for_interrupts() -> Result<()> {
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).context("cannot watch for interrupts")
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    if flags.sparse || flags.multi_vector {
        return super::tokens::run(flags);
    }
    if flags.dense {
        return Err(usage(
            "--dense belongs to --sparse or --multi-vector: without them the vector of the text is all there is",
        ));
    }
    let plan = flags.plan()?;
    let Some((found, input, voice)) = flags.start(&plan)? else { return Ok(()) };
    let given = flags.ranges.as_deref().map(Calibration::read).transpose()?;
    let embedder = Arc::new(plan.model.open(flags.quiet)?);
    let prompt = plan.model.prompt();
    flags::remind(embedder.info(), prompt, flags.quiet);
    let input = match plan.chunks {
        Some(chunks) => input.in_chunks(chunks.splitter(&embedder, prompt)?),
        None => input,
    };
    let ranges = match plan.quantization {
        Some(form) if form.needs_ranges() => Some(ranges::of(&embedder, prompt, given)?),
        _ => None,
    };
    let layout = Layout {
        width: match plan.quantization {
            None | Some(Quantization::F16) => embedder.dimensions(),
            Some(form) => form.width(embedder.dimensions()),
        },
        number: plan.quantization.map_or(Number::F32, Number::of),
        ids: flags.id_field.is_some(),
        id_type: flags.id_type(&input),
        text: flags.with_text,
        base64: flags.base64,
        chunks: plan.chunks.is_some_and(Chunks::rows),
    };

    let mut done = Done { rows: 0, chain: crate::chain::START };
    let mut again = "run it again".to_owned();
    let begin = match &plan.to {
        To::Nothing => Begin::Stream(Box::new(std::io::sink())),
        To::Stdout => output::standard_output(),
        To::Device(path) => {
            let file = fs::File::options().write(true).open(path);
            Begin::Stream(Box::new(file.with_context(|| format!("cannot write {}", path.display()))?))
        }
        To::File(names) => {
            let settings = flags.settings(&embedder, embedder.prompt_text(prompt)?, &plan, ranges.as_ref());
            let mut probe = embedder.embed_batch_as(&[PROBE], prompt)?.into_vec();
            probe.truncate(PROBE_COMPONENTS);
            let mut journal = Journal::new(settings, probe);
            if let Found::Unfinished(before) = found {
                before.ensure_same(&journal)?;
                done = Done { rows: before.rows, chain: if before.rows > 0 { before.chain } else { done.chain } };
                journal = *before;
            }
            again = format!("run it again with --resume to complete {}", names.out.display());
            let partial = Partial::open(names.clone(), journal)?;
            watch_for_interrupts()?;
            Begin::Partial(partial)
        }
    };
    let writer = Writer::open(begin, plan.format, layout, flags.row_group.get(), flags.checkpoint)?;

    let mut model = Model {
        embedder: &embedder,
        prompt,
        plan: &plan,
        ranges: ranges.as_ref(),
        seen: None,
        profile: Profile::default(),
    };
    model.seen = flags.save_ranges.as_ref().map(|_| Calibration::begin(&embedder, prompt)).transpose()?;
    let mut progress = Progress::new(voice, done.rows);
    let run = Run {
        input,
        done,
        embed: |records: &[Record]| model.embed(records),
        fewest: embedder.texts_at_once(),
        writer,
        progress: &mut progress,
        stop: &STOP,
        again: &again,
    };
    let (_, leftovers) = run.run()?;
    let to = match &plan.to {
        To::Nothing => flags.save_ranges.as_ref(),
        To::Stdout => None,
        To::Device(path) => Some(path),
        To::File(names) => Some(&names.out),
    };
    progress.finish(to.map(|p| p.display().to_string()).as_deref());
    if let (Some(path), Some(seen)) = (&flags.save_ranges, &model.seen) {
        ranges::write(path, seen, flags.quiet)?;
    }
    report(&leftovers, flags);
    if flags.profile {
        eprintln!("{}", model.profile);
    }
    Ok(())
}

pub(super) fn report(leftovers: &Leftovers, flags: &Flags) {
    if flags.quiet {
        return;
    }
    if leftovers.repaired > 0 {
        eprintln!(
            "embral: {} texts held bytes or escapes that are no characters: each became U+FFFD",
            grouped(leftovers.repaired)
        );
    }
    if let Some(first) = &leftovers.first_fault {
        eprintln!("embral: {} rows could not be read and were left out, first {first}", grouped(leftovers.skipped));
    }
}

/// A model as the pipeline calls it.
struct Model<'a> {
    embedder: &'a Embedder,
    prompt: Prompt<'a>,
    plan: &'a Plan<'a>,
    ranges: Option<&'a Ranges>,
    seen: Option<Calibration>,
    profile: Profile,
}

impl Model<'_> {
    fn embed(&mut self, records: &[Record]) -> Result<(Vectors, usize)> {
        let (rows, tokens) = match self.plan.chunks {
            Some(chunks) => chunks.embed(self.embedder, self.prompt, records)?,
            None => {
                let texts: Vec<&str> = records.iter().map(|r| r.text.as_str()).collect();
                let rows = self.embedder.embed_batch_as(&texts, self.prompt).map_err(|e| self.located(e, records))?;
                (rows, self.embedder.profile().tokens)
            }
        };
        self.profile.add(&self.embedder.profile());
        if let Some(seen) = &mut self.seen {
            seen.add(&rows)?;
        }
        let vectors = match self.plan.quantization {
            None => Vectors::F32(rows.into_vec()),
            Some(form) => quantize(&rows, form, self.ranges)?.into(),
        };
        Ok((vectors, tokens))
    }

    /// The error of a chunk with the line of the text that it is about.
    fn located(&self, error: embral::Error, records: &[Record]) -> anyhow::Error {
        if error.kind() != ErrorKind::TooLong {
            return error.into();
        }
        let long = |record: &&Record| self.embedder.embed_batch_as(&[&record.text], self.prompt).is_err();
        match records.iter().find(long) {
            Some(record) => {
                let message = error.message().split_once(": ").map_or(error.message(), |(_, what)| what);
                anyhow!("the text in line {}: {message} (cut it with --truncate right, or split it)", record.line)
            }
            None => error.into(),
        }
    }
}
