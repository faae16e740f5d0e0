//! Runs every fuzz target for a while. Cases found are kept under `fuzz/corpus` and `fuzz/artifacts`, both ignored by git; the
//! committed seeds under `fuzz/seeds` are also run by the ordinary tests.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::workspace;

const DEFAULT_SECONDS: u64 = 180;
/// A parser of hostile bytes holds a bounded multiple of its input: libFuzzer ends the run past this.
const MEMORY_LIMIT_MB: u32 = 2048;
/// Seconds one input may take.
const INPUT_LIMIT_S: u32 = 20;

/// Runs the named targets, or all.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (seconds, named) = arguments(args)?;
    if !workspace::has_program("cargo-fuzz") {
        bail!("cargo-fuzz is absent: `cargo install cargo-fuzz --locked`, and `rustup toolchain install nightly`");
    }
    let fuzz = workspace::root().join("fuzz");
    let targets = if named.is_empty() { targets()? } else { named };
    let mut failed = Vec::new();
    for target in &targets {
        let corpus = fuzz.join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("could not create {}", corpus.display()))?;
        let mut command = workspace::command("rustup");
        command.args(["run", "nightly", "cargo", "fuzz", "run", target]).arg(&corpus);
        let seeds = fuzz.join("seeds").join(target);
        if seeds.is_dir() {
            command.arg(&seeds);
        }
        command.args(["--", "-print_final_stats=1", "-verbosity=0"]).args([
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={MEMORY_LIMIT_MB}"),
            format!("-timeout={INPUT_LIMIT_S}"),
        ]);
        println!("\n== {target}");
        let start = Instant::now();
        if let Err(error) = workspace::run(&mut command) {
            eprintln!("{target}: {error:#}");
            failed.push(target.as_str());
        }
        println!("{target}: {:.0} s", start.elapsed().as_secs_f64());
    }
    if !failed.is_empty() {
        bail!("{} of {} targets failed: {}", failed.len(), targets.len(), failed.join(", "));
    }
    println!("\nall {} targets ran {seconds} s without a crash", targets.len());
    Ok(())
}

fn arguments(args: &[String]) -> Result<(u64, Vec<String>)> {
    let (mut seconds, mut named) = (DEFAULT_SECONDS, Vec::new());
    let mut args = args.iter();
    while let Some(argument) = args.next() {
        if argument == "--seconds" {
            let value = args.next().context("--seconds needs a number")?;
            seconds = value.parse().with_context(|| format!("--seconds needs a number, found {value:?}"))?;
        } else if argument.starts_with('-') {
            bail!("`cargo xtask fuzz` has no option {argument:?}");
        } else {
            named.push(argument.clone());
        }
    }
    Ok((seconds, named))
}

fn targets() -> Result<Vec<String>> {
    let list = workspace::output(workspace::command("rustup").args(["run", "nightly", "cargo", "fuzz", "list"]))?;
    Ok(list.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_targets_are_read() {
        let args = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(arguments(&[]).expect("valid"), (DEFAULT_SECONDS, vec![]));
        assert_eq!(arguments(&args(&["--seconds", "7", "npy"])).expect("valid"), (7, args(&["npy"])));
        assert!(arguments(&args(&["--seconds"])).is_err());
        assert!(arguments(&args(&["--seconds", "soon"])).is_err());
        assert!(arguments(&args(&["--minutes"])).is_err());
    }
}
