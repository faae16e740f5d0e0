//! What the project costs those who take it: bytes of the binary, crates of the library.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The release binary: 8 MB of it are the default model, 5 MB the server.
const BINARY_LIMIT: u64 = 42_000_000;
/// Crates in the tree of the library without features, the library itself included.
const CRATES_LIMIT: usize = 120;

/// Builds the release binary, counts, prints, and fails past a limit.
pub(crate) fn run(args: &[String]) -> Result<()> {
    workspace::no_arguments("size", args)?;
    workspace::run(workspace::cargo().args(["build", "--release", "--package", "embral-cli"]))?;
    let binary = workspace::target().join("release").join(format!("embral{}", std::env::consts::EXE_SUFFIX));
    let bytes = fs::metadata(&binary).with_context(|| format!("no binary at {}", binary.display()))?.len();

    let tree = ["tree", "--package", "embral", "--no-default-features", "--edges", "normal,build"];
    let tree = workspace::output(workspace::cargo().args(tree).args(["--prefix", "none", "--format", "{p}"]))?;
    let crates = crates_of(&tree);

    println!("release binary       {:>6.1} MB      of {} MB", bytes as f64 / 1e6, BINARY_LIMIT / 1_000_000);
    println!("crates of the library {crates:>5}         of {CRATES_LIMIT}");
    if bytes >= BINARY_LIMIT || crates >= CRATES_LIMIT {
        bail!("a limit is reached");
    }
    Ok(())
}

/// Distinct crates of `cargo tree --prefix none --format {p}`, which marks a crate that it has printed before.
fn crates_of(tree: &str) -> usize {
    let crates = tree.lines().map(|line| line.trim_end_matches(" (*)").trim_end_matches(" (proc-macro)").trim());
    crates.filter(|line| !line.is_empty()).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_counted_once_a_version() {
        let tree = "embral v0.1.0 (/w)\nserde v1.0.1\nserde_derive v1.0.1 (proc-macro)\nserde v1.0.1 (*)\n\nserde v2.0.0\nserde_derive v1.0.1 (proc-macro) (*)\n";
        assert_eq!(crates_of(tree), 4);
    }
}
