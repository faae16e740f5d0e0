//! The cache of the Hugging Face tools on disk: `models--org--name/{blobs,refs,snapshots}`.

use super::{Stored, StoredSource, files, name};
use embral_models::OnnxChoice;
use embral_types::{Error, Result};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// Models lie at most this many folders deep.
const DEPTH: usize = 3;

/// The folder of a repository in the cache.
pub(crate) fn repo_folder(cache: &Path, repo: &str) -> PathBuf {
    cache.join(format!("models--{}", repo.replace('/', "--")))
}

/// The commit that a revision stands for in the cache: the revision itself where there is a snapshot of that name, or what the
/// reference file of that name says.
pub(crate) fn commit(cache: &Path, repo: &str, revision: &str) -> Option<String> {
    let folder = repo_folder(cache, repo);
    if !revision.contains('/') && folder.join("snapshots").join(revision).is_dir() {
        return Some(revision.to_owned());
    }
    let commit = fs::read_to_string(folder.join("refs").join(revision)).ok()?;
    let commit = commit.trim();
    (name::check_revision(commit).is_ok() && !commit.contains('/')).then(|| commit.to_owned())
}

/// The snapshot of a revision, whole or not.
pub(crate) fn find(cache: &Path, repo: &str, revision: &str) -> Option<PathBuf> {
    let folder = repo_folder(cache, repo).join("snapshots").join(commit(cache, repo, revision)?);
    folder.is_dir().then_some(folder)
}

/// The files that can be opened below `folder`, as paths with `/`.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, below: &str, depth: usize, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{below}{name}");
            // A snapshot is made of links to files; links to folders are not followed, so there are no cycles.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth > 0 => walk(&entry.path(), &format!("{path}/"), depth - 1, names),
                Ok(kind) if !kind.is_dir() && entry.path().is_file() => names.push(path),
                _ => {}
            }
        }
    }
    let mut all = vec![];
    walk(folder, "", DEPTH, &mut all);
    all.sort_unstable();
    all
}

/// What a folder lacks to be a whole model, shards of the index included; empty where nothing is missing.
pub(crate) fn missing(folder: &Path, choice: &OnnxChoice) -> Vec<String> {
    let names = names(folder);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut missing: Vec<String> = files::missing(&names, choice).into_iter().map(str::to_owned).collect();
    let graph = files::graph(&names, choice).is_some();
    if !graph && files::weights(&names) == files::Weights::Sharded {
        for index in names.iter().filter(|path| path.ends_with(files::INDEX)) {
            let below = index.strip_suffix(files::INDEX).unwrap_or_default();
            match fs::read(folder.join(index)).map_err(|e| e.to_string()).and_then(|bytes| shards(&bytes)) {
                Ok(shards) => {
                    let lost = shards.into_iter().map(|shard| format!("{below}{shard}"));
                    missing.extend(lost.filter(|shard| !names.contains(&shard.as_str())));
                }
                Err(_) => missing.push((*index).to_owned()),
            }
        }
    }
    missing
}

/// Whether a folder is a whole model, with weights or with a graph in their place.
fn is_whole(folder: &Path) -> bool {
    missing(folder, &OnnxChoice::IfAlone).is_empty()
}

/// The shard files that an index names, each once.
pub(crate) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    let value: serde_json::Value = serde_json::from_slice(index).map_err(|e| e.to_string())?;
    let map = value.get("weight_map").and_then(|map| map.as_object()).ok_or("there is no weight_map")?;
    let names: HashSet<&str> = map.values().filter_map(|name| name.as_str()).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether it is known which optional files the repository has: `modules.json` is there, or was looked for and is marked as not
/// existing, as the Python tools mark it.
pub(crate) fn is_settled(snapshot: &Path) -> bool {
    snapshot.join("modules.json").is_file() || no_modules(snapshot).is_some_and(|mark| mark.exists())
}

/// The mark that a snapshot's repository has no `modules.json`.
pub(crate) fn no_modules(snapshot: &Path) -> Option<PathBuf> {
    let commit = snapshot.file_name()?;
    Some(snapshot.parent()?.parent()?.join(".no_exist").join(commit).join("modules.json"))
}

/// The whole models of the cache, sorted by name; of each the snapshot of `main`, or the last one otherwise.
pub(crate) fn list(cache: &Path) -> Vec<Stored> {
    let mut all = vec![];
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let Ok(folder) = entry.file_name().into_string() else { continue };
        let Some(repo) = folder.strip_prefix("models--").and_then(name::of_folder) else { continue };
        let main = find(cache, &repo, "main");
        let others = fs::read_dir(entry.path().join("snapshots")).into_iter().flatten().flatten().map(|e| e.path());
        let mut snapshots: Vec<PathBuf> = others.filter(|path| is_whole(path)).collect();
        snapshots.sort_unstable();
        let path = main.filter(|path| is_whole(path)).or_else(|| snapshots.pop());
        if let Some(path) = path {
            let bytes =
                names(&path).iter().filter_map(|name| fs::metadata(path.join(name)).ok()).map(|m| m.len()).sum();
            all.push(Stored { name: repo, path, bytes, source: StoredSource::Hub });
        }
    }
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Removes one snapshot and the blobs that no other snapshot uses; the whole repository with its last snapshot. Returns the bytes
/// freed.
pub(crate) fn remove(cache: &Path, repo: &str, revision: Option<&str>) -> Result<u64> {
    let folder = repo_folder(cache, repo);
    let before = size(&folder);
    let failed = |path: &Path, e| Error::io("cannot remove", path, e);
    if let Some(commit) = revision.and_then(|revision| commit(cache, repo, revision)) {
        let snapshot = folder.join("snapshots").join(&commit);
        for reference in files_below(&folder.join("refs")) {
            if fs::read_to_string(&reference).is_ok_and(|to| to.trim() == commit) {
                fs::remove_file(&reference).map_err(|e| failed(&reference, e))?;
            }
        }
        fs::remove_dir_all(&snapshot).map_err(|e| failed(&snapshot, e))?;
        let _ = fs::remove_dir_all(folder.join(".no_exist").join(&commit));
        let used: HashSet<PathBuf> =
            files_below(&folder.join("snapshots")).iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        for blob in files_below(&folder.join("blobs")) {
            if fs::canonicalize(&blob).is_ok_and(|blob| !used.contains(&blob)) {
                fs::remove_file(&blob).map_err(|e| failed(&blob, e))?;
            }
        }
        if fs::read_dir(folder.join("snapshots")).is_ok_and(|mut left| left.next().is_some()) {
            return Ok(before.saturating_sub(size(&folder)));
        }
    }
    fs::remove_dir_all(&folder).map_err(|e| failed(&folder, e))?;
    Ok(before)
}

/// Files and links to files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files_below(&entry.path())),
            Ok(_) => all.push(entry.path()),
            Err(_) => {}
        }
    }
    all
}

/// Bytes of the files below a folder; links count nothing.
pub(crate) fn size(folder: &Path) -> u64 {
    files_below(folder)
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .filter(|m| m.is_file())
        .map(|m| m.len())
        .sum()
}
