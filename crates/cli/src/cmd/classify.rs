//! `embral classify`: the labels of texts.

use crate::{
    flags::ModelFlags,
    listing::{Found, Listing, cell},
    texts::{self, TextFlags},
};
use anyhow::Result;
use clap::Args;
use embral::{Classifier, Config, Label, Scores};
use std::num::NonZeroUsize;

/// Print the labels that a classifier gives to texts
#[derive(Args, Debug)]
#[command(
    after_help = "Without TEXT and -i the texts are read from standard input, one a line. Prints the best label of each text with its
score, and the text.

Examples:
  embral classify -m distilbert/distilbert-base-uncased-finetuned-sst-2-english \"what a film\"
  embral classify -m cross-encoder/nli-MiniLM2-L6-H768 \"a man eats\" --pair \"somebody is fed\" --top-n 3"
)]
pub(crate) struct Flags {
    /// The texts
    #[arg(value_name = "TEXT", conflicts_with = "input")]
    texts: Vec<String>,
    /// Classify each text together with this second one
    #[arg(long, value_name = "SECOND")]
    pair: Option<String>,
    /// Print the N best labels of each text [default: 1; all with --json]
    #[arg(short = 'n', long, value_name = "N")]
    top_n: Option<NonZeroUsize>,
    /// How scores are made of the model's logits: logits, sigmoid or softmax [default: as the model says]
    #[arg(long, value_name = "KIND")]
    scores: Option<Scores>,
    /// Print one JSON object a line: {"index": ..., "labels": [{"label": ..., "score": ...}], "text": ...}
    #[arg(long, conflicts_with = "tsv")]
    json: bool,
    /// Print tab-separated values, one line a label: label, score, number or id, text
    #[arg(long)]
    tsv: bool,
    #[command(flatten)]
    input: TextFlags,
    #[command(flatten)]
    model: ModelFlags,
}

/// The labels of a text, best first.
#[derive(serde::Serialize)]
struct Labels {
    labels: Vec<Scored>,
}

#[derive(serde::Serialize)]
struct Scored {
    label: String,
    score: f32,
}

impl Found for Labels {
    fn short(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|l| format!("{} {:.4}", l.label, l.score)).collect();
        labels.join("  ")
    }

    fn cells(&self) -> Vec<String> {
        self.labels.iter().map(|l| format!("{}\t{}", cell(&l.label), l.score)).collect()
    }
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut input = flags.input.open(&flags.texts)?;
    let choice = flags.model.resolve();
    choice.fetch_other()?;
    let classifier = Classifier::with_config(Config { scores: flags.scores, ..choice.config.clone() })?;
    if choice.prompt.is_some() {
        return Err(crate::failure::usage("--prompt and --prompt-text are not for classifiers: leave them out"));
    }
    choice.say_rounding(false);
    let most = flags.top_n.map_or(if flags.json { usize::MAX } else { 1 }, NonZeroUsize::get);
    let mut listing = Listing::new(flags.json, flags.tsv);
    let mut index = 0;
    loop {
        let records = texts::chunk(&mut input)?;
        if records.is_empty() {
            return Ok(());
        }
        let scores = match &flags.pair {
            None => classifier.scores(&records.iter().map(|r| r.text.as_str()).collect::<Vec<_>>())?,
            Some(second) => {
                let pairs: Vec<(&str, &str)> = records.iter().map(|r| (r.text.as_str(), second.as_str())).collect();
                classifier.scores_of_pairs(&pairs)?
            }
        };
        for (record, row) in records.iter().zip(scores.rows()) {
            let labels = classifier.ranked(row).into_iter().take(most);
            let labels = labels.map(|Label { label, score }| Scored { label, score }).collect();
            listing.add(index, record, &Labels { labels })?;
            index += 1;
        }
        listing.print()?;
    }
}
