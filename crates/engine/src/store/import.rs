//! Models out of archives and folders.

use super::{
    archive::{self, Form, Limits},
    files, name, snapshot,
};
use embral_models::OnnxChoice;
use embral_types::{Error, ErrorKind, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// What [`crate::store::Store::import`] has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The name by which it is opened.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Its files.
    pub files: usize,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Where unpacking happens, beside the finished models; no name of a model starts with a dot.
const UNFINISHED: &str = ".unfinished-";

/// Files that come along although the engine does not read them.
const PAPERS: [&str; 6] = ["LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt", "README.md"];

/// A model among the entries of an archive.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Its folder in the archive: empty, or with a `/` at the end.
    root: String,
    /// The entries to take.
    files: BTreeSet<String>,
}

pub(crate) fn import(models: &Path, file: &Path, wanted: Option<&str>, limits: &Limits) -> Result<Imported> {
    if let Some(wanted) = wanted {
        name::check(wanted)?;
    }
    let form = form(file)?;
    let mut entries = vec![];
    archive::visit_path(file, form, limits, &mut |path, _| {
        entries.push(path.to_owned());
        Ok(())
    })?;
    let found = find(&entries).map_err(|e| e.in_file(file))?;
    let name = match wanted {
        Some(wanted) => wanted.to_owned(),
        None => derived(file, form, &found.root).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "no name can be made of the file's").hint("give one: --name")
        })?,
    };
    let target = models.join(name::to_folder(&name));
    fs::create_dir_all(models).map_err(|e| Error::io("cannot create the folder", models, e))?;
    let lock = models.join(".lock");
    let held = File::create(&lock).map_err(|e| Error::io("cannot create", &lock, e))?;
    // One import at a time; what another left unfinished was left by one that was killed.
    held.lock().map_err(|e| Error::io("cannot lock", &lock, e))?;
    sweep(models);
    if target.exists() {
        let message = format!("a model {name:?} is already there");
        return Err(Error::new(ErrorKind::InvalidInput, message)
            .in_file(target)
            .hint(format!("embral models rm {name}, or give another --name")));
    }
    let unfinished = models.join(format!("{UNFINISHED}{}", name::to_folder(&name)));
    let result = unpack(file, form, &found, limits, &unfinished).and_then(|(files, bytes)| {
        fs::rename(&unfinished, &target).map_err(|e| Error::io("cannot rename", &unfinished, e))?;
        Ok(Imported { name, path: target, files, bytes })
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    result
}

fn form(file: &Path) -> Result<Form> {
    let meta = fs::metadata(file).map_err(|e| Error::io("cannot read", file, e))?;
    if meta.is_dir() {
        return Ok(Form::Folder);
    }
    let mut reader = File::open(file).map_err(|e| Error::io("cannot open", file, e))?;
    archive::form(&mut reader).map_err(|e| Error::io("cannot read", file, e))?.ok_or_else(|| {
        Error::new(ErrorKind::Malformed, "expected a wheel, a zip, a tar, a tar.gz or a folder").in_file(file)
    })
}

/// Takes the entries of the model, and nothing else, into a new folder. Returns how many files and bytes.
fn unpack(file: &Path, form: Form, found: &Found, limits: &Limits, into: &Path) -> Result<(usize, u64)> {
    fs::create_dir(into).map_err(|e| Error::io("cannot create the folder", into, e))?;
    let (mut files, mut bytes) = (0, 0);
    archive::visit_path(file, form, limits, &mut |path, content| {
        if !found.files.contains(path) {
            return Ok(());
        }
        let target = into.join(&path[found.root.len()..]);
        let parent = target.parent().unwrap_or(into);
        fs::create_dir_all(parent).map_err(|e| Error::io("cannot create the folder", parent, e))?;
        let mut new = File::create_new(&target).map_err(|e| Error::io("cannot create", &target, e))?;
        bytes += copy(content, &mut new, path)?;
        new.sync_all().map_err(|e| Error::io("cannot write", &target, e))?;
        files += 1;
        Ok(())
    })?;
    let missing = snapshot::missing(into, &OnnxChoice::IfAlone);
    if missing.is_empty() {
        return Ok((files, bytes));
    }
    Err(Error::new(ErrorKind::Malformed, format!("the model lacks {}", missing.join(", "))).in_file(file))
}

/// Like [`io::copy`], telling a broken archive from a full disk.
fn copy(from: &mut dyn io::Read, to: &mut File, path: &str) -> Result<u64> {
    let mut buffer = vec![0; 1 << 17];
    let mut bytes = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::new(ErrorKind::Malformed, format!("cannot read {path:?}: {e}")).because(e)),
        };
        to.write_all(&buffer[..n])
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {path:?}: {e}")).because(e))?;
        bytes += n as u64;
    }
}

fn sweep(models: &Path) {
    for entry in fs::read_dir(models).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Finds the one folder that holds a model: weights, with a configuration or a tokeniser beside them.
fn find(entries: &[String]) -> Result<Found> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in entries {
        // Each entry belongs to every folder above it.
        let ends = entry.match_indices('/').map(|(at, _)| at + 1);
        for end in std::iter::once(0).chain(ends) {
            folders.entry(&entry[..end]).or_default().push(&entry[end..]);
        }
    }
    let mut roots: Vec<&str> = vec![];
    let mut foreign = vec![];
    for (root, names) in &folders {
        let below = |outer: &&str| root.len() > outer.len() && root.starts_with(*outer);
        let has = |file: &str| names.contains(&file);
        let described = has("config.json") || has("modules.json") || has("tokenizer.json");
        match files::weights(names) {
            _ if roots.iter().any(below) || !described => {}
            files::Weights::One | files::Weights::Sharded | files::Weights::Graph => roots.push(root),
            files::Weights::Foreign if has("config.json") => foreign.push(*root),
            files::Weights::Foreign | files::Weights::None => {}
        }
    }
    match roots.as_slice() {
        [root] => {
            let names = &folders[root];
            let papers = names.iter().filter(|name| PAPERS.contains(name));
            let files = files::needed(names, &OnnxChoice::IfAlone).into_iter().chain(papers.copied());
            Ok(Found { root: (*root).to_owned(), files: files.map(|name| format!("{root}{name}")).collect() })
        }
        [] => {
            let looked = "looked for a folder with model.safetensors (or its index) or model.onnx, and config.json, modules.json or tokenizer.json";
            let message = match foreign.first() {
                Some(root) => format!("{root:?} holds weights only in formats that are not read: {looked}"),
                None => format!("there is no model in it: {looked}"),
            };
            Err(Error::new(ErrorKind::NotFound, message))
        }
        several => {
            Err(Error::new(ErrorKind::InvalidInput, format!("there are several models in it: {}", several.join(", ")))
                .hint("unpack it and import one of the folders"))
        }
    }
}

/// A name from the distribution of a wheel, the model's folder, or the file, in this order.
fn derived(file: &Path, form: Form, root: &str) -> Option<String> {
    const GENERAL: [&str; 5] = ["model", "models", "snapshot", "snapshots", "data"];
    let absolute = fs::canonicalize(file).ok()?;
    let file_name = absolute.file_name()?.to_str()?;
    if let Some(wheel) = file_name.strip_suffix(".whl") {
        return name::made_of(&wheel.split('-').next()?.replace('_', "-"));
    }
    let inner =
        root.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty() && !GENERAL.contains(name));
    if let Some(inner) = inner {
        return name::made_of(inner);
    }
    if form == Form::Folder {
        // models--org--name/snapshots/commit
        let mut above = absolute.ancestors().skip(1);
        let snapshots = above.next().and_then(Path::file_name).is_some_and(|name| name == "snapshots");
        let repo = above.next().and_then(Path::file_name).and_then(|name| name.to_str()?.strip_prefix("models--"));
        if let Some(repo) = repo.filter(|_| snapshots) {
            return name::of_folder(repo);
        }
        return name::made_of(file_name);
    }
    let stem = [".tar.gz", ".tgz", ".tar", ".zip"].iter().find_map(|end| file_name.strip_suffix(end));
    name::made_of(stem.unwrap_or(file_name))
}

#[cfg(test)]
mod tests;
