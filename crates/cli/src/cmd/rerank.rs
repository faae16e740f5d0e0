//! `embral rerank`: how well documents answer a query.

use crate::{
    flags::{ModelFlags, ensure_query},
    input::Record,
    listing::{Found, Listing},
    texts::{self, TextFlags},
};
use anyhow::Result;
use clap::Args;
use embral::{Config, Reranker, Scores};
use std::num::NonZeroUsize;

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
    ensure_query(&flags.query)?;
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
    let mut listing = Listing::new(flags.json, flags.tsv);
    for Hit { score, index, record } in &best {
        listing.add(*index, record, &Scored { score: *score })?;
    }
    listing.print()
}

/// The score of a document.
#[derive(serde::Serialize)]
struct Scored {
    score: f32,
}

impl Found for Scored {
    fn short(&self) -> String {
        format!("{:8.4}", self.score)
    }

    fn cells(&self) -> Vec<String> {
        vec![self.score.to_string()]
    }
}
