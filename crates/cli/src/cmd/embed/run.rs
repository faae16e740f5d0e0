//! A run of `embral embed`, whatever the model gives: what is there already, the output, and going on after a kill.

use super::{
    flags::Flags,
    plan::{From, Plan, To},
};
use crate::{
    chain,
    input::{Input, Record},
    output::{self, Begin, Found, Journal, Layout, Names, Partial, Vectors, Writer},
    pipeline::{self, Done, Leftovers},
    progress::{Progress, Voice, grouped},
};
use anyhow::{Context, Result};
use embral::{Error, ErrorKind};
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

/// Set by the first interrupt of a run into a file.
static STOP: AtomicBool = AtomicBool::new(false);

/// The text whose vector a resumed run is compared by.
const PROBE: &str = "The same model gives this sentence the same vector.";
/// Components of it that are kept.
const PROBE_COMPONENTS: usize = 16;

/// What the journal of an output tells a model by, of the numbers that it makes of a text: a sentence, or nothing where a longer text is
/// an error.
pub(super) fn probe(numbers: impl Fn(&str) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
    let too_long = |e: &anyhow::Error| e.downcast_ref().is_some_and(|e: &Error| e.kind() == ErrorKind::TooLong);
    let mut probe = match numbers(PROBE) {
        Err(e) if too_long(&e) => numbers("")?,
        numbers => numbers?,
    };
    probe.truncate(PROBE_COMPONENTS);
    Ok(probe)
}

/// A run whose input is open.
pub(super) struct Run {
    found: Found,
    pub(super) input: Input,
    voice: Voice,
}

impl Run {
    /// Looks at what is there of the output and opens the input; nothing where the output is complete.
    pub(super) fn open(flags: &Flags, plan: &Plan<'_>) -> Result<Option<Self>> {
        let found = match &plan.to {
            To::File(names) => names.find(flags.resume, flags.overwrite)?,
            _ => Found::Nothing,
        };
        if matches!(found, Found::Complete) {
            if let (To::File(names), false) = (&plan.to, flags.quiet) {
                eprintln!(
                    "embral: {} is complete: nothing to resume (--overwrite writes it again)",
                    names.out.display()
                );
            }
            return Ok(None);
        }
        let (input, voice) = match &plan.from {
            From::Texts(texts) => (Input::of_texts(texts.to_vec()), Voice::Quiet),
            From::Input(options) => (Input::open(options)?, Voice::fitting(flags.quiet)),
        };
        Ok(Some(Self { found, input, voice }))
    }

    /// Runs to the end of the input. `journal` is asked for the settings and the probe of a run into a file; `fewest` texts at a time
    /// leave nothing idle.
    pub(super) fn run(
        self,
        flags: &Flags,
        plan: &Plan<'_>,
        layout: Layout,
        fewest: usize,
        journal: impl FnOnce() -> Result<Journal>,
        embed: impl FnMut(&[Record]) -> Result<(Vectors, usize)>,
    ) -> Result<Leftovers> {
        let mut done = Done { rows: 0, chain: chain::START };
        let mut again = "run it again".to_owned();
        let begin = match &plan.to {
            To::Nothing => Begin::Stream(Box::new(std::io::sink())),
            To::Stdout => output::standard_output(),
            To::Device(path) => {
                let file = fs::File::options().write(true).open(path);
                Begin::Stream(Box::new(file.with_context(|| format!("cannot write {}", path.display()))?))
            }
            To::File(names) => {
                let partial;
                (partial, done) = take_up(names, self.found, journal()?)?;
                again = format!("run it again with --resume to complete {}", names.out.display());
                watch_for_interrupts()?;
                Begin::Partial(partial)
            }
        };
        let writer = Writer::open(begin, plan.format, layout, flags.row_group.get(), flags.checkpoint)?;
        let mut progress = Progress::new(self.voice, done.rows);
        let run = pipeline::Run {
            input: self.input,
            done,
            embed,
            fewest,
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
        Ok(leftovers)
    }
}

/// The unfinished output with what it has, where `found` is one that this run can go on with; else a new one.
fn take_up(names: &Names, found: Found, mut journal: Journal) -> Result<(Partial, Done)> {
    let mut done = Done { rows: 0, chain: chain::START };
    if let Found::Unfinished(before) = found {
        before.ensure_same(&journal)?;
        if before.rows > 0 {
            done = Done { rows: before.rows, chain: before.chain };
        }
        journal = *before;
    }
    Ok((Partial::open(names.clone(), journal)?, done))
}

/// Makes the first interrupt end the run at the next chunk; a second one does not wait for it.
fn watch_for_interrupts() -> Result<()> {
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).context("cannot watch for interrupts")
}

/// Says what was repaired and what was left out, unless the flags say to be quiet.
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
