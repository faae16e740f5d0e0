//! `embral similarity`: how near texts are to each other in meaning.

use crate::{
    flags::{self, ModelFlags},
    output::one_line,
};
use anyhow::Result;
use clap::Args;
use std::{fmt::Write as _, io::Write as _};

/// Print how similar texts are: the cosine of each pair, 1 for the same meaning
#[derive(Args, Debug)]
#[command(after_help = "Example:
  embral similarity \"a cat sat on the mat\" \"a kitten rests on a rug\" \"interest rates rose\"")]
pub(crate) struct Flags {
    /// The texts, two or more
    #[arg(value_name = "TEXT", required = true, num_args = 2..)]
    texts: Vec<String>,
    /// Print one JSON object: {"texts": [...], "similarity": [[...]]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelFlags,
}

/// The object of `--json`.
#[derive(serde::Serialize)]
struct Matrix<'a> {
    texts: &'a [String],
    similarity: Vec<&'a [f32]>,
}

/// Characters of a text beside its row.
const TEXT: usize = 60;

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let choice = flags.model.resolve();
    let embedder = choice.open(false)?;
    flags::remind(embedder.info(), choice.prompt(), false);
    let mut rows = embedder.embed_batch_as(&flags.texts, choice.prompt())?;
    normalize(&mut rows);
    let matrix = embral::similarity(&rows, &rows);
    let n = flags.texts.len();
    let out = if flags.json {
        let rows = Matrix { texts: &flags.texts, similarity: matrix.chunks(n).collect() };
        serde_json::to_string(&rows)? + "\n"
    } else {
        table(&flags.texts, &matrix)?
    };
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

/// Divides every vector by its length: a cosine is asked for, whatever the model leaves.
pub(super) fn normalize(rows: &mut embral::Embeddings) {
    let dim = rows.dim().max(1);
    for row in rows.as_mut_slice().chunks_exact_mut(dim) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|x| *x /= length);
        }
    }
}

fn table(texts: &[String], matrix: &[f32]) -> Result<String> {
    let n = texts.len();
    let number = n.to_string().len();
    let mut out = " ".repeat(number);
    for column in 1..=n {
        write!(out, "  {column:>7}")?;
    }
    out.push('\n');
    for (i, text) in texts.iter().enumerate() {
        write!(out, "{:>number$}", i + 1)?;
        for cosine in &matrix[i * n..(i + 1) * n] {
            write!(out, "  {cosine:>7.4}")?;
        }
        writeln!(out, "  {}", one_line(text, TEXT))?;
    }
    Ok(out)
}
