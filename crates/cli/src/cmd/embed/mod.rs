//! `embral embed`: texts in, vectors out.

mod dense;
mod flags;
mod plan;
mod run;
mod tokens;

pub(crate) use flags::Flags;

use crate::failure::usage;
use anyhow::Result;

pub(crate) fn run(flags: &Flags) -> Result<()> {
    if flags.sparse || flags.multi_vector {
        return tokens::run(flags);
    }
    if flags.dense {
        return Err(usage(
            "--dense belongs to --sparse or --multi-vector: without them the vector of the text is all there is",
        ));
    }
    dense::run(flags)
}
