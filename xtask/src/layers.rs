//! The layers of the workspace as data, and the check that no dependency points up or sideways.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace;

/// What a crate of the workspace may depend on, among the crates of the workspace.
enum May {
    /// Exactly these.
    Use(&'static [&'static str]),
    /// Every crate of a row above its own.
    UseAbove,
}

/// One row a crate, from the ground up. A crate may use only what stands in a row above its own.
const ROWS: &[(&str, May)] = &[
    ("embral-kernels", May::Use(&[])),
    ("embral-types", May::Use(&[])),
    ("embral-formats", May::Use(&["embral-types"])),
    ("embral-tokenize", May::Use(&["embral-types"])),
    ("embral-models", May::Use(&["embral-types", "embral-formats"])),
    ("embral-backend", May::Use(&["embral-types"])),
    ("embral-scheduler", May::Use(&["embral-types"])),
    ("embral-cpu", May::Use(&["embral-types", "embral-formats", "embral-kernels", "embral-backend"])),
    ("embral-onnx", May::Use(&["embral-types"])),
    ("embral-forward", May::Use(&["embral-types", "embral-formats", "embral-backend", "embral-models"])),
    ("embral", May::UseAbove),
    ("embral-compress", May::UseAbove),
    ("embral-server", May::UseAbove),
    ("embral-bench", May::UseAbove),
    ("embral-cli", May::UseAbove),
    ("xtask", May::Use(&[])),
];

/// Every crate may use it in its tests, none in its code; it uses none.
const TESTKIT: &str = "embral-testkit";
/// The one exception: this crate carries the suite that each backend runs in its tests, behind a feature.
const SUITE: &str = "embral-backend";

/// Runs the check on the workspace.
pub(crate) fn run(args: &[String]) -> Result<()> {
    workspace::no_arguments("layers", args)?;
    let text = workspace::output(workspace::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
    let (edges, faults) = judge(&metadata)?;
    if !faults.is_empty() {
        bail!("{} broken:\n  {}", if faults.len() == 1 { "a layer is" } else { "layers are" }, faults.join("\n  "));
    }
    println!("layers: {edges} dependencies between the crates, none points up or sideways");
    Ok(())
}

/// The number of dependencies between crates of the workspace, and a sentence on each that breaks the layers.
fn judge(metadata: &Value) -> Result<(usize, Vec<String>)> {
    let (mut edges, mut faults) = (0, Vec::new());
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let name = package["name"].as_str().context("a package has no name")?;
        if name != TESTKIT && !ROWS.iter().any(|(row, _)| *row == name) {
            faults.push(format!("{name} has no row in xtask/src/layers.rs"));
        }
        for dependency in package["dependencies"].as_array().context("a package has no dependencies")? {
            // Only a dependency inside the workspace has a path.
            if dependency["path"].is_null() {
                continue;
            }
            let to = dependency["name"].as_str().context("a dependency has no name")?;
            edges += 1;
            let only_tests = dependency["kind"] == "dev" || (name == SUITE && dependency["optional"] == true);
            if let Some(fault) = fault(name, to, only_tests) {
                faults.push(fault);
            }
        }
    }
    Ok((edges, faults))
}

fn fault(from: &str, to: &str, only_tests: bool) -> Option<String> {
    if to == TESTKIT {
        return (!only_tests).then(|| format!("{from} uses {to} outside its tests"));
    }
    if from == TESTKIT {
        return Some(format!("{from} uses {to}, but may use no crate of the workspace"));
    }
    // A crate without a row is reported once, as such.
    let row = ROWS.iter().position(|(name, _)| *name == from)?;
    let allowed: Vec<&str> = match &ROWS[row].1 {
        May::Use(names) => names.to_vec(),
        May::UseAbove => ROWS[..row].iter().map(|(name, _)| *name).collect(),
    };
    if allowed.contains(&to) {
        return None;
    }
    let allowed = if allowed.is_empty() { "no crate of the workspace".to_owned() } else { allowed.join(", ") };
    Some(format!("{from} uses {to}, but may use {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults_of(from: &str, dependencies: &Value) -> Vec<String> {
        judge(&json!({ "packages": [{ "name": from, "dependencies": dependencies }] })).expect("well-formed").1
    }

    #[test]
    fn every_row_uses_only_rows_above_it() {
        for (at, (name, may)) in ROWS.iter().enumerate() {
            if let May::Use(names) = may {
                for used in *names {
                    assert!(
                        ROWS[..at].iter().any(|(above, _)| above == used),
                        "{name} may use {used}, which is not above it"
                    );
                }
            }
        }
    }

    #[test]
    fn a_dependency_that_points_down_passes() {
        let dependencies = json!([
            { "name": "embral-types", "path": "/w/crates/types", "kind": null },
            { "name": "memmap2", "kind": null },
            { "name": "embral-testkit", "path": "/w/crates/testkit", "kind": "dev" },
        ]);
        assert_eq!(faults_of("embral-formats", &dependencies), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_that_points_up_fails() {
        let dependencies = json!([{ "name": "embral", "path": "/w/crates/engine", "kind": null }]);
        let faults = faults_of("embral-models", &dependencies);
        assert_eq!(faults, ["embral-models uses embral, but may use embral-types, embral-formats"]);
    }

    #[test]
    fn a_dependency_that_points_sideways_fails() {
        for (from, to) in
            [("embral-forward", "embral-cpu"), ("embral-compress", "embral-bench"), ("embral-types", "embral-kernels")]
        {
            let faults = faults_of(from, &json!([{ "name": to, "path": "/w", "kind": null }]));
            assert_eq!(faults.len(), 1, "{from} -> {to}: {faults:?}");
        }
    }

    #[test]
    fn a_dependency_of_the_tests_obeys_the_same_rows() {
        let faults = faults_of("embral-kernels", &json!([{ "name": "embral-types", "path": "/w", "kind": "dev" }]));
        assert_eq!(faults, ["embral-kernels uses embral-types, but may use no crate of the workspace"]);
    }

    #[test]
    fn the_testkit_stays_in_tests() {
        let faults = faults_of("embral-cpu", &json!([{ "name": "embral-testkit", "path": "/w", "kind": null }]));
        assert_eq!(faults, ["embral-cpu uses embral-testkit outside its tests"]);
        let suite = json!([{ "name": "embral-testkit", "path": "/w", "kind": null, "optional": true }]);
        assert_eq!(faults_of("embral-backend", &suite), Vec::<String>::new());
        assert_eq!(faults_of("embral-cpu", &suite).len(), 1);
        let faults = faults_of("embral-testkit", &json!([{ "name": "embral-types", "path": "/w", "kind": "dev" }]));
        assert_eq!(faults, ["embral-testkit uses embral-types, but may use no crate of the workspace"]);
    }

    #[test]
    fn a_crate_without_a_row_fails() {
        assert_eq!(faults_of("embral-newcomer", &json!([])), ["embral-newcomer has no row in xtask/src/layers.rs"]);
    }
}
