//! The range of each component over a set of texts: what int8 and uint8 vectors are calibrated by.

use crate::failure::usage;
use anyhow::{Result, bail};
use embral::{
    Embedder, ErrorKind, Prompt,
    quantize::{Calibration, Ranges},
};
use std::path::Path;

/// With fewer texts the extremes are mostly chance.
const FEW_TEXTS: usize = 100;

/// Writes the ranges so far to a file.
pub(crate) fn write(path: &Path, seen: &Calibration, quiet: bool) -> Result<()> {
    if seen.texts == 0 {
        bail!("the input has no text to take ranges from");
    }
    if seen.texts < FEW_TEXTS && !quiet {
        eprintln!("embral: ranges from {} texts are mostly chance: take some hundred or more", seen.texts);
    }
    Ok(seen.write(path)?)
}

/// The ranges of the vectors that a model makes with a prompt: those given, else those that were kept for them.
pub(crate) fn of(embedder: &Embedder, prompt: Prompt<'_>, given: Option<Calibration>) -> Result<Ranges> {
    let calibration = match given {
        Some(calibration) => calibration,
        None => match Calibration::read(&Calibration::begin(embedder, prompt)?.path()?) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(usage(
                    "int8 and uint8 need the range of each component, and none is kept for this model, prompt and --dims: make \
                     it once from some hundred texts or more with `embral calibrate SAMPLE` and the same flags, or pass --ranges \
                     FILE",
                ));
            }
            kept => kept?,
        },
    };
    match calibration.ensure_of(embedder, prompt) {
        Err(e) if e.kind() == ErrorKind::Mismatch => Err(usage(e.to_string())),
        fits => Ok(fits.map(|()| calibration.ranges())??),
    }
}
