//! `embral cache`: the vectors that are kept.

use anyhow::Result;
use clap::{Args, Subcommand};
use embral::{Error, ErrorKind, cache::VectorFolder, store::Store};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

/// Look at the vectors that --vector-cache keeps, or remove them
#[derive(Args, Debug)]
pub(crate) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Print how many vectors are kept, and whether the store is whole
    Info {
        /// The folder [default: that of --vector-cache on]
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove every vector
    Clear {
        /// The folder [default: that of --vector-cache on]
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let out = match &flags.what {
        What::Info { folder, json } => info(&open(folder.as_deref())?, *json)?,
        What::Clear { folder } => {
            let folder = open(folder.as_deref())?;
            let vectors = folder.vectors();
            let freed = folder.clear()? as f64 / 1e6;
            match vectors {
                Ok(vectors) => format!("removed {vectors} vectors, {freed:.1} MB\n"),
                Err(_) => format!("removed a store that was damaged, {freed:.1} MB\n"),
            }
        }
    };
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

fn open(folder: Option<&Path>) -> Result<VectorFolder> {
    if let Some(folder) = folder {
        return Ok(VectorFolder::new(folder));
    }
    let none = || Error::new(ErrorKind::NotFound, "there is no cache folder: HOME is not set").hint("name one");
    Ok(Store::open_default()?.vectors().ok_or_else(none)?)
}

fn info(folder: &VectorFolder, json: bool) -> Result<String> {
    let (bytes, path) = (folder.bytes(), folder.path());
    let vectors = folder.check().and_then(|()| folder.vectors());
    if json {
        let damage = vectors.as_ref().err().map(ToString::to_string);
        let object = serde_json::json!({ "path": path, "bytes": bytes, "vectors": vectors.ok(), "damage": damage });
        return Ok(format!("{object:#}\n"));
    }
    Ok(format!("path     {}\nvectors  {}\nsize     {:.1} MB\n", path.display(), vectors?, bytes as f64 / 1e6))
}
