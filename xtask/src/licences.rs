//! Licences, sources and bans of every dependency, by `deny.toml`.

use anyhow::{Result, bail};

use crate::workspace;

/// Runs cargo-deny, without the advisories: their database is a git repository that a machine with package registries alone
/// cannot reach.
pub(crate) fn run(args: &[String]) -> Result<()> {
    workspace::no_arguments("licences", args)?;
    if !workspace::has_program("cargo-deny") {
        bail!("cargo-deny is absent: `cargo install cargo-deny --locked`");
    }
    workspace::run(workspace::cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))
}
