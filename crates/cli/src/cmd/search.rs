//! `embral search`: the texts of a file that are nearest to a query in meaning.

use crate::{
    failure::usage,
    flags::{Chosen, ModelFlags, ensure_query},
    input::{self, Bad, Id, Input, Record},
    listing::{id_json, row, terminal_width},
    ranges,
};
use anyhow::Result;
use clap::Args;
use embral::{
    Embeddings, Prompt,
    quantize::{Calibration, Candidates, Quantization, Quantized, quantize},
};
use std::{io::Write, num::NonZeroUsize, path::PathBuf};

/// Find the texts of a file that are nearest to a query in meaning
#[derive(Args, Debug)]
#[command(after_help = "Prints the score (the cosine), the line or row, and the text, best first.

Examples:
  embral search notes.txt \"how do I reset my password\"
  embral search faq.jsonl --field question \"refunds\" -k 3 --json
  embral search notes.txt \"how do I reset my password\" --quantize binary")]
pub(crate) struct Flags {
    /// The texts: text lines, JSONL, CSV, TSV or Parquet by the file's name; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to look for
    #[arg(value_name = "QUERY")]
    query: String,
    /// Print the K best texts
    #[arg(short, value_name = "K", default_value = "10")]
    k: NonZeroUsize,
    /// Print one JSON object a line: {"score": ..., "line": ..., "text": ...}
    #[arg(long)]
    json: bool,
    /// The format of FILE [default: by its name]
    #[arg(long, value_enum, value_name = "FORMAT")]
    input_format: Option<input::Format>,
    /// The field or column of the text [default: text]
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// The field or column of an id to print
    #[arg(long, value_name = "NAME")]
    id_field: Option<String>,
    /// Put a prompt of the model before the query [default: its prompt of a query, if any]
    #[arg(long, value_name = "NAME", conflicts_with = "query_prompt_text")]
    query_prompt: Option<String>,
    /// Put this text before the query
    #[arg(long, value_name = "TEXT")]
    query_prompt_text: Option<String>,
    /// Search vectors of fewer bits, as an index holds them: f16, int8, uint8, binary or ubinary
    #[arg(long, value_name = "KIND")]
    quantize: Option<Quantization>,
    /// With --quantize, score the N * K best by their bits again by the floats of the query; 0 does not
    #[arg(long, value_name = "N", default_value = "4", requires = "quantize")]
    rescore: usize,
    /// With --quantize int8 or uint8, the range of each component [default: what embral calibrate kept]
    #[arg(long, value_name = "FILE", requires = "quantize")]
    ranges: Option<PathBuf>,
    #[command(flatten)]
    model: ModelFlags,
}

struct Hit {
    score: f32,
    record: Record,
    /// The vector in few bits; empty where floats are searched.
    bits: Vec<u8>,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    ensure_query(&flags.query)?;
    let mut input = Input::open(&input::Options {
        path: (flags.file.as_os_str() != "-").then(|| flags.file.clone()),
        format: flags.input_format,
        field: flags.field.clone(),
        id_field: flags.id_field.clone(),
        bad: Bad::Fail(""),
        skip_blank: true,
    })?;
    let choice = flags.model.resolve();
    let embedder = choice.open(false)?;
    let query_prompt = Chosen::of(flags.query_prompt.as_ref(), flags.query_prompt_text.as_ref());
    // A prompt that is named is for both sides, where the query has none of its own.
    let (for_query, for_texts) = match (query_prompt.as_ref().or(choice.prompt.as_ref()), &choice.prompt) {
        (None, _) => (Prompt::Query, Prompt::Document),
        (Some(query), None) => (query.prompt(), Prompt::Document),
        (Some(query), Some(texts)) => (query.prompt(), texts.prompt()),
    };
    let mut query = embedder.embed_batch_as(&[&flags.query], for_query)?;
    if flags.quantize.is_none() {
        super::similarity::normalize(&mut query);
    }
    let ranges = match flags.quantize {
        Some(form) if form.needs_ranges() => {
            let given = flags.ranges.as_deref().map(Calibration::read).transpose()?;
            Some(ranges::of(&embedder, for_texts, given)?)
        }
        Some(form) if flags.ranges.is_some() => {
            return Err(usage(format!("--ranges belongs to --quantize int8 or uint8, not {form}")));
        }
        _ => None,
    };

    let k = flags.k.get();
    let kept = if flags.quantize.is_some() { k.saturating_mul(flags.rescore.max(1)) } else { k };
    let mut best: Vec<Hit> = Vec::new();
    loop {
        let records = input.batch(embedder.texts_at_once())?;
        if records.is_empty() {
            break;
        }
        let texts: Vec<&str> = records.iter().map(|r| r.text.as_str()).collect();
        let mut rows: Embeddings = embedder.embed_batch_as(&texts, for_texts)?;
        let quantized = flags.quantize.map(|form| quantize(&rows, form, ranges.as_ref())).transpose()?;
        let scores = match &quantized {
            Some(quantized) => quantized.coarse(query.row(0), ranges.as_ref())?,
            None => {
                super::similarity::normalize(&mut rows);
                embral::similarity(&query, &rows)
            }
        };
        let bits = |row: usize| quantized.as_ref().map_or_else(Vec::new, |q| q.row(row).to_vec());
        let hits = records.into_iter().zip(scores).enumerate();
        best.extend(hits.map(|(row, (record, score))| Hit { score, record, bits: bits(row) }));
        // Stable, so that of equal scores the first in the file comes first.
        best.sort_by(|a, b| b.score.total_cmp(&a.score));
        best.truncate(kept);
    }
    if let Some(form) = flags.quantize
        && flags.rescore > 0
    {
        best.sort_by_key(|hit| hit.record.line);
        let bits = best.iter().flat_map(|hit| &hit.bits).copied().collect();
        let quantized = Quantized::from_bytes(form, query.dim(), bits)?;
        let again = quantized.top_k(query.row(0), ranges.as_ref(), Candidates { k, rescored: kept })?;
        let mut hits: Vec<Option<Hit>> = best.into_iter().map(Some).collect();
        let hit = |(row, score): (usize, f32)| hits[row].take().map(|hit| Hit { score, ..hit });
        best = again.into_iter().filter_map(hit).collect();
    }
    print(&best, flags)
}

/// A hit of `--json`.
#[derive(serde::Serialize)]
struct Line<'a> {
    score: f32,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<serde_json::Value>,
    text: &'a str,
}

fn print(best: &[Hit], flags: &Flags) -> Result<()> {
    let width = terminal_width();
    let mut out = String::new();
    let digits = best.iter().map(|h| h.record.line.to_string().len()).max().unwrap_or(1);
    for Hit { score, record, .. } in best {
        if flags.json {
            out.push_str(&serde_json::to_string(&Line {
                score: *score,
                line: record.line,
                id: id_json(&record.id)?,
                text: &record.text,
            })?);
            out.push('\n');
        } else {
            let id = match &record.id {
                Id::Row(_) => String::new(),
                Id::Int(n) => format!("{n}  "),
                Id::Text(s) | Id::Json(s) => format!("{s}  "),
            };
            let start = format!("{score:6.4}  {:>digits$}  {id}", record.line);
            out.push_str(&row(start, &record.text, width));
        }
    }
    Ok(std::io::stdout().lock().write_all(out.as_bytes())?)
}
