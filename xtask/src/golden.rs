//! Regenerates the golden fixtures: a virtual environment with the versions of `xtask/golden/requirements.txt`, then
//! `xtask/golden/make.py` in it.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace;

/// Runs the script; the arguments are passed on to it.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let folder = workspace::root().join("xtask/golden");
    let requirements = folder.join("requirements.txt");
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("could not read {}", requirements.display()))?;

    let venv = workspace::root().join("target/golden/venv");
    let python = venv.join("bin/python");
    // Written last, so that an environment whose installation was cut short is not taken for a finished one.
    let installed = venv.join("requirements.txt");
    if fs::read_to_string(&installed).ok().as_deref() != Some(wanted.as_str()) {
        workspace::run(workspace::command("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let pip = ["-m", "pip", "install", "--quiet", "--no-input", "--requirement"];
        workspace::run(workspace::command(&python).args(pip).arg(&requirements))?;
        fs::write(&installed, wanted).with_context(|| format!("could not write {}", installed.display()))?;
    }
    workspace::run(workspace::command(&python).arg(folder.join("make.py")).args(args))
}
