//! A whole file as one slice of bytes, mapped rather than read.
#![allow(unsafe_code, reason = "mapping a file is unsafe by nature; this is the one place")]

use embral_types::{Error, Result};
use memmap2::Mmap;
use std::{borrow::Cow, fs::File, ops::Deref, path::Path};

/// The bytes of a file: mapped, or in memory.
///
/// Pages of a mapped file are read when they are touched and belong to the page cache, so that two processes with one model share
/// them. The file must not be shortened while it is mapped: writers of model files write a new file and rename it into place.
#[derive(Debug)]
pub struct FileBytes(Inner);

#[derive(Debug)]
enum Inner {
    Mapped(Mmap),
    Memory(Cow<'static, [u8]>),
}

impl FileBytes {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("cannot open", path, e))?;
        let kind = file.metadata().map_err(|e| Error::io("cannot open", path, e))?;
        if kind.is_dir() {
            return Err(Error::io("cannot open", path, std::io::ErrorKind::IsADirectory.into()));
        }
        // SAFETY: the mapping is private and read-only and is only ever handed out as `&[u8]` that borrows it. What the type system
        // cannot exclude is another process shortening the file meanwhile; `FileBytes` states that contract, and the hub cache and
        // the importer keep it by renaming finished files into place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("cannot map", path, e))?;
        Ok(Self(Inner::Mapped(map)))
    }
}

impl<T: Into<Cow<'static, [u8]>>> From<T> for FileBytes {
    fn from(bytes: T) -> Self {
        Self(Inner::Memory(bytes.into()))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Mapped(map) => map,
            Inner::Memory(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_types::ErrorKind;

    #[test]
    fn files_come_back_whole_and_missing_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(&*FileBytes::open(&path).unwrap(), b"abc");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(&*FileBytes::open(&path).unwrap(), b"");
        assert_eq!(&*FileBytes::from(&b"de"[..]), b"de");
        let missing = FileBytes::open(&dir.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.to_string().contains("none"));
        assert!(FileBytes::open(dir.path()).is_err());
    }
}
