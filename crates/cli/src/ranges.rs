//! The range of each component over a set of texts: what int8 and uint8 vectors are calibrated by.

use anyhow::{Context, Result, anyhow, bail};
use embral::quantize::Ranges;
use std::{fs, path::Path};

/// The ranges of the vectors so far.
#[derive(Default)]
pub(crate) struct Seen {
    texts: usize,
    min: Vec<f32>,
    max: Vec<f32>,
}

impl Seen {
    /// Takes vectors in.
    pub(crate) fn add(&mut self, rows: &embral::Embeddings) -> Result<()> {
        let ranges = Ranges::of(rows)?;
        if self.texts == 0 {
            (self.min, self.max) = (ranges.min().to_vec(), ranges.max().to_vec());
        }
        self.min.iter_mut().zip(ranges.min()).for_each(|(a, b)| *a = a.min(*b));
        self.max.iter_mut().zip(ranges.max()).for_each(|(a, b)| *a = a.max(*b));
        self.texts += rows.len();
        Ok(())
    }
}

/// The file of `--save-ranges`.
#[derive(serde::Serialize, serde::Deserialize)]
struct RangesFile {
    texts: usize,
    min: Vec<f32>,
    max: Vec<f32>,
}

/// With fewer texts the extremes are mostly chance.
const FEW_TEXTS: usize = 100;

/// Writes the ranges so far to a file.
pub(crate) fn write(path: &Path, seen: &Seen, quiet: bool) -> Result<()> {
    if seen.texts == 0 {
        bail!("--save-ranges: the input has no text to take ranges from");
    }
    if seen.texts < FEW_TEXTS && !quiet {
        eprintln!("embral: ranges from {} texts are mostly chance: take some hundred or more", seen.texts);
    }
    let file = RangesFile { texts: seen.texts, min: seen.min.clone(), max: seen.max.clone() };
    fs::write(path, serde_json::to_vec(&file)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the ranges of a file.
pub(crate) fn read(path: &Path) -> Result<Ranges> {
    let name = path.display();
    let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let file: RangesFile =
        serde_json::from_slice(&bytes).map_err(|e| anyhow!("{name}: no file of --save-ranges: {e}"))?;
    Ok(Ranges::new(file.min, file.max).map_err(|e| e.in_file(path))?)
}
