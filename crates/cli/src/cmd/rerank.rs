//! `embral rerank`: how well documents answer a query.

use crate::{
    flags::ModelFlags,
    input::Record,
    output::one_line,
    texts::{self, TextFlags},
};
use anyhow::Result;
use clap::Args;
use embral::{Config, Reranker, Scores};
use std::{
    io::{IsTerminal, Write},
    num::NonZeroUsize,
};

/// Score documents for a query with a reranker and print them best first
#[derive(Args, Debug)]
#[command(
    after_help = "Without DOCUMENT and -i the documents are read from standard input, one a line. Prints the score, the number of the
document from 0 (or its id) and the text. Needs a model that reranks: a cross-encoder with one label, or
Qwen3-Reranker, whose instruction --prompt-text replaces.

Examples:
  embral rerank -m cross-encoder/ms-marco-MiniLM-L6-v2 \"how do plants eat\" \"by photosynthesis\" \"with a fork\"
  embral rerank -m BAAI/bge-reranker-base \"refunds\" -i faq.jsonl --field answer --top-n 3 --json"
)]
pub(crate) struct Flags {
    /// What is looked for
    #[arg(value_name = "QUERY")]
    query: String,
    /// The documents
    #[arg(value_name = "DOCUMENT", conflicts_with = "input")]
    documents: Vec<String>,
    /// Print the N best documents only
    #[arg(short = 'n', long, value_name = "N")]
    top_n: Option<NonZeroUsize>,
    /// How scores are made of the model's logits: logits or sigmoid [default: as the model says]
    #[arg(long, value_name = "KIND")]
    scores: Option<Scores>,
    /// Print one JSON object a line: {"index": ..., "score": ..., "text": ...}
    #[arg(long, conflicts_with = "tsv")]
    json: bool,
    /// Print tab-separated values: score, number or id, text
    #[arg(long)]
    tsv: bool,
    #[command(flatten)]
    input: TextFlags,
    #[command(flatten)]
    model: ModelFlags,
}

struct Hit {
    score: f32,
    /// The number of the document, from 0.
    index: u64,
    record: Record,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut input = flags.input.open(&flags.documents)?;
    let choice = flags.model.resolve();
    choice.fetch_other()?;
    let reranker = Reranker::with_config(Config { scores: flags.scores, ..choice.config.clone() })?;
    reranker.info().prompt_text(choice.prompt())?;
    choice.say_rounding(false);
    let mut best: Vec<Hit> = Vec::new();
    let mut index = 0;
    loop {
        let records = texts::chunk(&mut input)?;
        if records.is_empty() {
            break;
        }
        let documents: Vec<&str> = records.iter().map(|r| r.text.as_str()).collect();
        let scores = reranker.score_as(&flags.query, &documents, choice.prompt())?;
        let numbers = index..;
        index += records.len() as u64;
        best.extend(numbers.zip(records).zip(scores).map(|((index, record), score)| Hit { score, index, record }));
        // Stable, so that of equal scores the first in the input comes first.
        best.sort_by(|a, b| b.score.total_cmp(&a.score));
        best.truncate(flags.top_n.map_or(usize::MAX, NonZeroUsize::get));
    }
    print(&best, flags)
}

/// A document of `--json`.
#[derive(serde::Serialize)]
struct Line<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<serde_json::Value>,
    score: f32,
    text: &'a str,
}

fn print(best: &[Hit], flags: &Flags) -> Result<()> {
    let stdout = std::io::stdout();
    let width = stdout.is_terminal().then(|| usize::from(console::Term::stdout().size().1));
    let mut out = String::new();
    for Hit { score, index, record } in best {
        let text = &record.text;
        let word = texts::id_word(&record.id, *index);
        if flags.json {
            let line = Line { index: *index, id: texts::id_json(&record.id)?, score: *score, text };
            out.push_str(&serde_json::to_string(&line)?);
        } else if flags.tsv {
            out.push_str(&format!("{score}\t{}\t{}", texts::cell(&word), texts::cell(text)));
        } else {
            let start = format!("{score:8.4}  {word}  ");
            let room = width.map_or(usize::MAX, |w| w.saturating_sub(start.chars().count()).max(20));
            out.push_str(&start);
            out.push_str(&one_line(text, room));
        }
        out.push('\n');
    }
    Ok(stdout.lock().write_all(out.as_bytes())?)
}
