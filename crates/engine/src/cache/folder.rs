//! A folder of vectors as its user looks after it.

use super::database::{BESIDE, FILE, connect, failed};
use embral_types::{Error, ErrorKind, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder of vectors as a user sees it: how much is in it, and a way to empty it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorFolder {
    path: PathBuf,
}

impl VectorFolder {
    /// The folder at `path`, whether it is there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of its files; 0 where there are none.
    pub fn bytes(&self) -> u64 {
        let size = |name: &str| fs::metadata(self.path.join(name)).map_or(0, |m| m.len());
        size(FILE) + BESIDE.map(size).iter().sum::<u64>()
    }

    /// The number of vectors; 0 where there is no store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn vectors(&self) -> Result<u64> {
        let file = self.path.join(FILE);
        if !file.exists() {
            return Ok(0);
        }
        let count = connect(&file)?.query_row("SELECT count(*) FROM vectors", [], |row| row.get::<_, i64>(0));
        count.map(i64::unsigned_abs).map_err(|e| failed(&file, &e))
    }

    /// Looks at the whole store for damage.
    ///
    /// # Errors
    /// Where there is some.
    pub fn check(&self) -> Result<()> {
        let file = self.path.join(FILE);
        if !file.exists() {
            return Ok(());
        }
        let found = connect(&file)?.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match found.map_err(|e| failed(&file, &e))? {
            ok if ok == "ok" => Ok(()),
            damage => Err(Error::new(ErrorKind::Malformed, format!("the vector cache is damaged: {damage}"))
                .in_file(file)
                .hint("`embral cache clear` empties it")),
        }
    }

    /// Removes every vector and says how many bytes that freed. Processes that use the store go on with an empty one; a store that is
    /// damaged is removed.
    ///
    /// # Errors
    /// Where other processes do not let go of it, or a file cannot be removed.
    pub fn clear(&self) -> Result<u64> {
        let before = self.bytes();
        let file = self.path.join(FILE);
        if !file.exists() {
            return Ok(0);
        }
        let emptied = connect(&file).and_then(|connection| {
            let all = "DELETE FROM vectors; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);";
            connection.execute_batch(all).map_err(|e| failed(&file, &e))
        });
        match emptied {
            Err(e) if e.kind() == ErrorKind::Malformed => {
                // Under its names nobody can be using it: whoever met the damage has let go of it.
                for name in [FILE].iter().chain(&BESIDE) {
                    let path = self.path.join(name);
                    match fs::remove_file(&path) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                            return Err(Error::io("cannot remove", path, e));
                        }
                        _ => {}
                    }
                }
            }
            other => other?,
        }
        Ok(before.saturating_sub(self.bytes()))
    }
}
