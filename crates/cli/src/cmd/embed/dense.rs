//! `embral embed` for one vector a text, or a chunk of it.

use super::{
    flags::Flags,
    plan::Plan,
    run::{self, Run},
};
use crate::{
    chunks::Chunks,
    flags,
    input::Record,
    output::{self, Journal, Layout, Number, Vectors},
    ranges,
};
use anyhow::{Result, anyhow};
use embral::{
    Embedder, ErrorKind, Profile, Prompt,
    quantize::{Calibration, Quantization, Ranges, quantize},
};
use std::{collections::BTreeMap, sync::Arc};

pub(super) fn run(flags: &Flags) -> Result<()> {
    let plan = flags.plan()?;
    let Some(mut run) = Run::open(flags, &plan)? else { return Ok(()) };
    let given = flags.ranges.as_deref().map(Calibration::read).transpose()?;
    let embedder = Arc::new(plan.model.open(flags.quiet)?);
    let prompt = plan.model.prompt();
    flags::remind(embedder.info(), prompt, flags.quiet);
    if let Some(chunks) = plan.chunks {
        run.input = run.input.in_chunks(chunks.splitter(&embedder, prompt)?);
    }
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
        id_type: flags.id_type(&run.input),
        text: flags.with_text,
        base64: flags.base64,
        chunks: plan.chunks.is_some_and(Chunks::rows),
    };
    let journal = || {
        let probe = run::probe(|text| Ok(embedder.embed_batch_as(&[text], prompt)?.into_vec()))?;
        let settings = settings(flags, &embedder, embedder.prompt_text(prompt)?, &plan, ranges.as_ref());
        Ok(Journal::new(settings, probe))
    };
    let mut model = Model {
        embedder: &embedder,
        prompt,
        plan: &plan,
        ranges: ranges.as_ref(),
        seen: None,
        profile: Profile::default(),
    };
    model.seen = flags.save_ranges.as_ref().map(|_| Calibration::begin(&embedder, prompt)).transpose()?;
    let fewest = embedder.texts_at_once();
    let leftovers = run.run(flags, &plan, layout, fewest, journal, |records| model.embed(records))?;
    if let (Some(path), Some(seen)) = (&flags.save_ranges, &model.seen) {
        ranges::write(path, seen, flags.quiet)?;
    }
    run::report(&leftovers, flags);
    if flags.profile {
        eprintln!("{}", model.profile);
    }
    Ok(())
}

/// What a run must share with the one that it goes on with.
fn settings(
    flags: &Flags,
    embedder: &Embedder,
    prompt: &str,
    plan: &Plan<'_>,
    ranges: Option<&Ranges>,
) -> BTreeMap<String, String> {
    let info = embedder.info();
    let mut settings = flags.settings(plan);
    let mut set = |flag: &str, value: String| settings.insert(flag.to_owned(), value);
    set("--dims", info.dimensions.to_string());
    set("--pooling", info.pooling.to_string());
    set("--no-normalize", (!info.normalize).to_string());
    set("--max-tokens", embedder.max_tokens().to_string());
    set("--precision", info.precision.to_string());
    set("--prompt", format!("{prompt:?}"));
    set("--format", plan.format.name().to_owned());
    set("--output", plan.quantization.map_or("float", Quantization::name).to_owned());
    set("--base64", flags.base64.to_string());
    if plan.format == output::Format::Parquet {
        set("--row-group", flags.row_group.to_string());
    }
    if let Some(ranges) = ranges {
        set("--ranges", format!("{:?} {:?}", ranges.min(), ranges.max()));
    }
    flags.chunks.settings(&mut settings);
    settings
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
