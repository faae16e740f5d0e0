//! Everything CI runs, in one command: each step to its end, then one table of all steps.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{clients, layers, licences, workspace};

const BEGIN: &str = "<!-- tests:begin -->";
const END: &str = "<!-- tests:end -->";

/// Runs every step, prints the table, fails when a step failed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    workspace::no_arguments("check", args)?;
    let mut report = Report::default();
    report.step("format", || workspace::run(workspace::cargo().args(["fmt", "--all", "--check"])));
    report.step("layers", || layers::run(&[]));
    report.step("licences", || licences::run(&[]));
    report.step("lints", || {
        workspace::run(workspace::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    // The one feature that no default build has.
    report.step("lints of the feature ort", || {
        let ort = ["clippy", "--package", "embral-onnx", "--features", "ort", "--all-targets", "--", "-D", "warnings"];
        workspace::run(workspace::cargo().args(ort))
    });
    // gRPC is for whoever builds it in: its code and its tests are in no default build.
    report.step("lints of the feature grpc", || {
        let grpc =
            ["clippy", "--package", "embral-server", "--features", "grpc", "--all-targets", "--", "-D", "warnings"];
        workspace::run(workspace::cargo().args(grpc))
    });
    report.step("gRPC of the server", || {
        let tests = ["test", "--package", "embral-server", "--features", "grpc", "--test", "serve", "grpc::"];
        workspace::run(workspace::cargo().args(tests))
    });
    report.step("docs", || {
        let mut doc = workspace::cargo();
        doc.env("RUSTDOCFLAGS", "-D warnings");
        // Libraries alone: the binary `embral` would be written over the library of that name.
        workspace::run(doc.args(["doc", "--workspace", "--lib", "--no-deps", "--document-private-items"]))
    });
    report.step("library without features", || without_features("embral"));
    report.step("command without features", || without_features("embral-cli"));
    report.step("server without features", || without_features("embral-server"));
    report.step("tests", tests);
    report.step("clients of the server", || clients::run(&[]));
    report.finish()
}

/// The lints of a package as its smallest build has it: code that only a feature uses is a warning there, and so a failure.
fn without_features(package: &str) -> Result<()> {
    let mut clippy = workspace::cargo();
    clippy.args(["clippy", "--package", package, "--no-default-features", "--", "-D", "warnings"]);
    workspace::run(&mut clippy)
}

/// Runs what the README tells a reader to run, so that the README cannot go stale.
fn tests() -> Result<()> {
    let readme = fs::read_to_string(workspace::root().join("README.md")).context("could not read README.md")?;
    for line in stated_commands(&readme)? {
        workspace::run(workspace::command("bash").args(["-c", line]))?;
    }
    Ok(())
}

/// The lines between the two markers that are not fences of a code block, without the prompt.
fn stated_commands(readme: &str) -> Result<Vec<&str>> {
    let stated = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(stated, _)| stated);
    let stated = stated.with_context(|| format!("README.md states no test command between {BEGIN} and {END}"))?;
    let lines = stated.lines().map(|line| line.trim().trim_start_matches("$ "));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("```")).collect();
    if lines.is_empty() {
        bail!("README.md has nothing between {BEGIN} and {END}");
    }
    Ok(lines)
}

#[derive(Default)]
struct Report {
    steps: Vec<(&'static str, Duration, Result<()>)>,
}

impl Report {
    fn step(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = step();
        if let Err(error) = &outcome {
            eprintln!("{name}: {error:#}");
        }
        self.steps.push((name, start.elapsed(), outcome));
    }

    fn finish(self) -> Result<()> {
        println!("\n{:<28}{:>9}  outcome", "step", "seconds");
        for (name, took, outcome) in &self.steps {
            let word = if outcome.is_ok() { "pass" } else { "FAIL" };
            println!("{name:<28}{:>9.1}  {word}", took.as_secs_f64());
        }
        let failed: Vec<&str> = self.steps.iter().filter(|step| step.2.is_err()).map(|step| step.0).collect();
        if !failed.is_empty() {
            bail!("{} of {} steps failed: {}", failed.len(), self.steps.len(), failed.join(", "));
        }
        println!("all {} steps passed", self.steps.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_between_the_markers_are_read() {
        for prompt in ["", "$ "] {
            let readme = format!("# A\n{BEGIN}\n```console\n{prompt}cargo test --workspace\n```\n{END}\n$ cargo run\n");
            assert_eq!(stated_commands(&readme).expect("marked"), ["cargo test --workspace"]);
        }
    }

    #[test]
    fn a_readme_without_a_test_command_fails() {
        for readme in
            ["cargo test", "<!-- tests:begin -->\n```sh\n```\n<!-- tests:end -->", "<!-- tests:begin -->\ncargo test\n"]
        {
            assert!(stated_commands(readme).is_err(), "{readme:?}");
        }
    }

    #[test]
    fn one_failed_step_fails_the_check() {
        let mut report = Report::default();
        report.step("first", || Ok(()));
        report.step("second", || bail!("broken"));
        report.step("third", || Ok(()));
        let error = report.finish().expect_err("a step failed");
        assert_eq!(error.to_string(), "1 of 3 steps failed: second");
    }
}
