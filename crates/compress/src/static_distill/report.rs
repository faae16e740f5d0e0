//! What a run did and what it was worth.

use super::Epoch;
use serde_json::{Value, json};
use std::fmt::Write;

/// A run's figures.
#[derive(Clone, Debug)]
pub struct Report {
    /// The teacher's name.
    pub teacher: String,
    /// Distinct texts.
    pub texts: usize,
    /// Pairs.
    pub pairs: usize,
    /// Tokens of all texts in the table's vocabulary.
    pub tokens: usize,
    /// Rows of the table.
    pub rows: usize,
    /// Components of a row.
    pub dims: usize,
    /// Rows given to words that the teacher's tokenizer splits.
    pub words: usize,
    /// Rows whose token no text has.
    pub unseen: usize,
    /// The part of the energy of the teacher's vectors that the table's dimensions hold.
    pub teacher_energy: f64,
    /// The loss of each epoch.
    pub epochs: Vec<Epoch>,
    /// Seed of everything drawn by chance.
    pub seed: u64,
    /// Bytes of `model.safetensors`.
    pub bytes: usize,
    /// The scores, where evaluation sets were given.
    pub scores: Vec<Score>,
    /// Seconds of the whole run.
    pub seconds: f64,
}

/// One evaluation set.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The set's name.
    pub set: String,
    /// `Spearman` or `nDCG@10`.
    pub measure: &'static str,
    /// The teacher's score.
    pub teacher: f64,
    /// The table before refinement.
    pub start: f64,
    /// After refinement, in f32.
    pub refined: f64,
    /// As written, opened by the engine.
    pub stored: f64,
    /// As written, cut to so many components.
    pub cuts: Vec<(usize, f64)>,
}

impl Report {
    /// For programs.
    pub fn json(&self) -> Value {
        let epochs: Vec<Value> =
            self.epochs.iter().map(|e| json!({"direction": e.direction, "structure": e.structure})).collect();
        let scores: Vec<Value> = self
            .scores
            .iter()
            .map(|s| {
                let cuts: serde_json::Map<String, Value> =
                    s.cuts.iter().map(|(dims, value)| (dims.to_string(), json!(value))).collect();
                json!({
                    "set": s.set, "measure": s.measure, "teacher": s.teacher, "start": s.start,
                    "refined_f32": s.refined, "stored_int8": s.stored, "cuts": cuts,
                })
            })
            .collect();
        json!({
            "teacher": self.teacher, "texts": self.texts, "pairs": self.pairs, "tokens": self.tokens, "rows": self.rows,
            "dims": self.dims, "words": self.words, "unseen_rows": self.unseen, "teacher_energy": self.teacher_energy,
            "epochs": epochs, "seed": self.seed, "bytes": self.bytes, "seconds": self.seconds, "scores": scores,
        })
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{text}").expect("a String takes every write");
        line(format!("# Static distillation of {}\n", self.teacher));
        line(format!(
            "{} rows of {} components as int8 with an f32 weight a row: {} bytes. {} texts ({} tokens), {} pairs, seed {}, {:.0} s.",
            self.rows, self.dims, self.bytes, self.texts, self.tokens, self.pairs, self.seed, self.seconds
        ));
        line(format!(
            "{} rows were given to words that the teacher's tokenizer splits; {} rows have a token that no text has. The table's \
             dimensions hold {:.1} % of the energy of the teacher's vectors.\n",
            self.words,
            self.unseen,
            100.0 * self.teacher_energy
        ));
        line("| epoch | 1 - cosine to the teacher | divergence of similarities |\n|---|---|---|".to_owned());
        for (number, epoch) in self.epochs.iter().enumerate() {
            line(format!("| {} | {:.4} | {:.4} |", number + 1, epoch.direction, epoch.structure));
        }
        if let Some(first) = self.scores.first() {
            let cuts: String = first.cuts.iter().map(|(dims, _)| format!(" {dims} dims |")).collect();
            let rules = "---|".repeat(6 + first.cuts.len());
            line(format!("\n| set | measure | teacher | before | refined, f32 | written, int8 |{cuts}\n|{rules}"));
        }
        for s in &self.scores {
            let cuts: String = s.cuts.iter().map(|(_, value)| format!(" {value:.4} |")).collect();
            line(format!(
                "| {} | {} | {:.4} | {:.4} | {:.4} | {:.4} |{cuts}",
                s.set, s.measure, s.teacher, s.start, s.refined, s.stored
            ));
        }
        out
    }
}
