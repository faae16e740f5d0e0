//! The folder of packed weights.

use embral_formats::packed::PARTIAL;
use embral_types::{Error, Result};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Bytes that the folder holds at most.
const LIMIT: u64 = 4 << 30;
/// A file that has been written for as long as this is written by nobody any more.
const ABANDONED: Duration = Duration::from_secs(60 * 60);
const EXTENSION: &str = "packed";

/// Weights in the order in which the kernels read them, one file a model, precision and instruction set.
///
/// A file is found by the names, shapes and first values of the model's weights, and a matrix in it by a hash (XXH3, 128 bits) of all the
/// weights it was packed from; what other weights, another version or a damaged disk would make wrong is packed again, and the file
/// written anew. Files of 4 GiB altogether are kept, those that were used last. The folder may be removed at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFolder {
    path: PathBuf,
    limit: u64,
}

struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl PackedFolder {
    /// The folder at `path`, whether it is there or not.
    pub fn new(path: PathBuf) -> Self {
        Self { path, limit: LIMIT }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of its files; 0 where it is not there.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.files()?.iter().map(|file| file.bytes).sum())
    }

    /// Removes its files and says how many bytes they had. Models that are open keep what they have mapped.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn clear(&self) -> Result<u64> {
        let mut freed = 0;
        for file in self.files()? {
            match fs::remove_file(&file.path) {
                Ok(()) => freed += file.bytes,
                // Another process was faster.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("cannot remove", file.path, e)),
            }
        }
        Ok(freed)
    }

    /// The file of that name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name).with_extension(EXTENSION)
    }

    /// Removes what was abandoned while it was written, and files beyond the limit, those first that were used longest ago.
    pub(crate) fn prune(&self) -> Result<()> {
        let now = SystemTime::now();
        let (partial, mut whole): (Vec<_>, Vec<_>) =
            self.files()?.into_iter().partition(|file| file.path.extension().is_some_and(|e| e == PARTIAL));
        let abandoned = partial.iter().filter(|f| now.duration_since(f.used).is_ok_and(|age| age > ABANDONED));
        whole.sort_by_key(|file| std::cmp::Reverse(file.used));
        let mut sum = 0_u64;
        let surplus = whole.iter().filter(|file| {
            sum = sum.saturating_add(file.bytes);
            sum > self.limit
        });
        for file in abandoned.chain(surplus) {
            // Another process may have removed it, or still have it open; the next one tries again.
            let _ = fs::remove_file(&file.path);
        }
        Ok(())
    }

    /// Every file that is ours by its name.
    fn files(&self) -> Result<Vec<Kept>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("cannot read", &self.path, e)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io("cannot read", &self.path, e))?.path();
            let ours = path.extension().is_some_and(|e| e == EXTENSION || e == PARTIAL);
            // A file that is gone by now needs no counting.
            if let Some(data) = fs::metadata(&path).ok().filter(|data| ours && data.is_file()) {
                let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(Kept { path, bytes: data.len(), used });
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_used_longest_ago_go_first_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let folder = PackedFolder { limit: 100, ..PackedFolder::new(home.path().join("packed")) };
        assert_eq!((folder.bytes().unwrap(), folder.clear().unwrap()), (0, 0));
        folder.prune().unwrap();
        fs::create_dir(folder.path()).unwrap();
        let now = SystemTime::now();
        let put = |name: &str, bytes: usize, hours: u64| {
            let path = folder.path().join(name);
            fs::write(&path, vec![0; bytes]).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(now - Duration::from_secs(3600 * hours)).unwrap();
        };
        for (name, bytes, hours) in [("a.packed", 60, 9), ("b.packed", 50, 1), ("c.packed", 40, 5), ("d.txt", 500, 99)]
        {
            put(name, bytes, hours);
        }
        put("a.1-0.partial", 7, 3);
        put("b.2-0.partial", 8, 0);
        assert_eq!(folder.bytes().unwrap(), 60 + 50 + 40 + 7 + 8);
        folder.prune().unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["b.2-0.partial", "b.packed", "c.packed", "d.txt"]);
        assert_eq!(folder.clear().unwrap(), 98);
        assert_eq!(names(), ["d.txt"]);
    }
}
