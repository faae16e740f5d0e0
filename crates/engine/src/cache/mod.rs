//! Vectors that were computed before, found by what they were computed from.
//!
//! A vector is found by a SHA-256 of all that it depends on: the contents of the model's files (not their names or dates), the
//! precision, the instructions it was computed with, the prompt, pooling, width, normalisation, limits and the text. What comes out is
//! bit for bit what the model gave. Off unless [`Config::vector_cache`](crate::Config::vector_cache) asks for it.
//!
//! ```no_run
//! # fn main() -> embral::Result<()> {
//! use embral::{Config, Embedder, cache::VectorCache};
//! let config = Config { vector_cache: Some(VectorCache::in_folder("vectors")), ..Config::default() };
//! let embedder = Embedder::with_config(config)?;
//! embedder.embed("computed once, for every process that shares the folder")?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "vector-cache")]
mod database;
#[cfg(feature = "vector-cache")]
mod disk;
#[cfg(feature = "vector-cache")]
mod embed;
#[cfg(feature = "vector-cache")]
mod folder;
#[cfg(feature = "vector-cache")]
mod key;
#[cfg(feature = "vector-cache")]
mod memory;

#[cfg(feature = "vector-cache")]
pub use folder::VectorFolder;
#[cfg(feature = "vector-cache")]
use key::Key;

use embral_types::Error;
use std::path::PathBuf;

/// Which vectors are kept, and where.
#[derive(Clone, Debug)]
pub struct VectorCache {
    /// The folder of the store that processes share; `None` keeps vectors in the memory of this embedder alone.
    pub folder: Option<PathBuf>,
    /// Bytes of vectors in memory; those used longest ago go first. 0 keeps none.
    pub memory_bytes: usize,
    /// Bytes of the store in `folder`; those used longest ago go first.
    pub disk_bytes: u64,
    /// Told, once, why vectors are no longer kept on disk, or that a damaged one was passed over. Neither fails a call.
    pub report: fn(&Error),
}

impl Default for VectorCache {
    /// In memory, 64 MiB; 1 GiB where a folder is named.
    fn default() -> Self {
        Self { folder: None, memory_bytes: 64 << 20, disk_bytes: 1 << 30, report: |_| {} }
    }
}

impl VectorCache {
    /// The cache that lies in `folder`, which is made where it is not there.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..Self::default() }
    }
}

/// The vectors of one model.
#[cfg(feature = "vector-cache")]
pub(crate) struct Cache {
    model: Key,
    memory: std::sync::Mutex<memory::Memory>,
    disk: Option<disk::Disk>,
}

#[cfg(feature = "vector-cache")]
impl Cache {
    /// The vectors of the model that `model` is the key of. A store that cannot be used is reported, and no error.
    pub(crate) fn open(settings: &VectorCache, model: Key) -> Self {
        let disk = settings.folder.as_deref().map(|folder| disk::Disk::open(folder, settings));
        Self { model, memory: memory::Memory::new(settings.memory_bytes).into(), disk }
    }

    /// The key of a text.
    pub(crate) fn key(&self, told: crate::prompt::Told<'_>, text: &str) -> Key {
        key::of_text(&self.model, told, text)
    }

    /// What is kept under each key.
    pub(crate) fn get(&self, keys: &[Key]) -> Vec<Option<Box<[f32]>>> {
        let mut found: Vec<Option<Box<[f32]>>> = {
            let mut memory = self.memory();
            keys.iter().map(|key| memory.get(key).map(Into::into)).collect()
        };
        let Some(disk) = &self.disk else { return found };
        let missing: Vec<usize> = (0..keys.len()).filter(|&i| found[i].is_none()).collect();
        if missing.is_empty() {
            return found;
        }
        let wanted: Vec<Key> = missing.iter().map(|&i| keys[i]).collect();
        let rows = disk.get(&wanted);
        let mut memory = self.memory();
        for (i, row) in missing.into_iter().zip(rows) {
            if let Some(row) = row {
                memory.put(keys[i], &row);
                found[i] = Some(row);
            }
        }
        found
    }

    /// Keeps vectors of `dim` components.
    pub(crate) fn put(&self, keys: &[Key], rows: &[f32], dim: usize) {
        {
            let mut memory = self.memory();
            for (key, row) in keys.iter().zip(rows.chunks_exact(dim.max(1))) {
                memory.put(*key, row);
            }
        }
        if let Some(disk) = &self.disk {
            disk.put(keys, rows, dim);
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, memory::Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
