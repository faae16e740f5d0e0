//! `embral completions`: what a shell needs to complete embral's command line.

use anyhow::Result;
use clap::Args;
use std::io::Write;

/// Print the completion script of a shell
#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut crate::command(), "embral", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
