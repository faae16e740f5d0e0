//! The commands, one file each.

mod bench;
#[cfg(feature = "vector-cache")]
mod cache;
mod calibrate;
mod classify;
mod completions;
mod distill;
mod doctor;
mod embed;
mod inspect;
mod kernels;
mod models;
mod rerank;
mod search;
#[cfg(feature = "server")]
mod serve;
mod similarity;

use anyhow::Result;
use clap::Subcommand;

/// The commands, as typed.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Embed(Box<embed::Flags>),
    Similarity(Box<similarity::Flags>),
    Search(Box<search::Flags>),
    Calibrate(Box<calibrate::Flags>),
    Rerank(Box<rerank::Flags>),
    Classify(Box<classify::Flags>),
    #[cfg(feature = "server")]
    Serve(Box<serve::Flags>),
    Models(models::Flags),
    Bench(bench::Flags),
    #[cfg(feature = "vector-cache")]
    Cache(cache::Flags),
    Kernels(kernels::Flags),
    Inspect(inspect::Flags),
    Distill(distill::Flags),
    Doctor(doctor::Flags),
    Completions(completions::Flags),
}

/// Runs a command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Embed(flags) => embed::run(&flags),
        Command::Similarity(flags) => similarity::run(&flags),
        Command::Search(flags) => search::run(&flags),
        Command::Calibrate(flags) => calibrate::run(&flags),
        Command::Rerank(flags) => rerank::run(&flags),
        Command::Classify(flags) => classify::run(&flags),
        #[cfg(feature = "server")]
        Command::Serve(flags) => serve::run(*flags),
        Command::Models(flags) => models::run(&flags),
        Command::Bench(flags) => bench::run(&flags),
        #[cfg(feature = "vector-cache")]
        Command::Cache(flags) => cache::run(&flags),
        Command::Inspect(flags) => inspect::run(&flags),
        Command::Kernels(flags) => kernels::run(&flags),
        Command::Distill(flags) => distill::run(&flags),
        Command::Doctor(flags) => doctor::run(&flags),
        Command::Completions(flags) => completions::run(&flags),
    }
}
