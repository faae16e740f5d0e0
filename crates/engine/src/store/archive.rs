//! Reading wheels, zips, tars and folders that nobody vouches for.
//!
//! An entry is a path below the root and bytes. Everything else that an archive can hold is refused: absolute paths, `..`,
//! links, devices, encrypted entries. What comes out is counted while it is read, never as an archive declares it.

use super::snapshot;
use embral_types::{Error, ErrorKind, Result};
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};
use tar::EntryType;
use zip::ZipArchive;

/// How much an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: usize,
    /// Bytes of all entries together.
    pub bytes: u64,
    /// How many times the length of the archive its content may be, above the first 64 MiB. Weights compress by about 1.1,
    /// tokenisers by about 4.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 100_000, bytes: 64 << 30, ratio: 200 }
    }
}

/// Content up to this size is never taken for a bomb.
const SMALL: u64 = 64 << 20;
/// The longest path, and the longest header that carries one.
const LONGEST_PATH: usize = 1024;
const LONGEST_HEADER: u64 = 64 << 10;

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Zip,
    Tar,
    TarGz,
    Folder,
}

/// Called with the path and the bytes of each file.
pub(crate) type Visit<'a> = dyn FnMut(&str, &mut dyn Read) -> Result<()> + 'a;

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

fn refused(path: &str, what: &str) -> Error {
    malformed(format!("the archive holds {what}: {path:?}")).hint("such an archive is never unpacked")
}

/// Tells the form by the first bytes.
pub(crate) fn form(reader: &mut (impl Read + Seek)) -> io::Result<Option<Form>> {
    let mut start = Vec::with_capacity(512);
    reader.seek(SeekFrom::Start(0))?;
    reader.take(512).read_to_end(&mut start)?;
    reader.seek(SeekFrom::Start(0))?;
    Ok(if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        Some(Form::Zip)
    } else if start.starts_with(&[0x1f, 0x8b]) {
        Some(Form::TarGz)
    } else if start.get(257..262) == Some(b"ustar") {
        Some(Form::Tar)
    } else {
        None
    })
}

/// Visits every file of `path`.
pub(crate) fn visit_path(path: &Path, form: Form, limits: &Limits, visit: &mut Visit<'_>) -> Result<()> {
    if form == Form::Folder {
        return folder(path, limits, visit);
    }
    let file = File::open(path).map_err(|e| Error::io("cannot open", path, e))?;
    self::visit(BufReader::with_capacity(1 << 17, file), form, limits, visit).map_err(|e| e.in_file(path))
}

/// Visits every file of an archive that is not a folder.
pub(crate) fn visit(mut reader: impl Read + Seek, form: Form, limits: &Limits, visit: &mut Visit<'_>) -> Result<()> {
    let unreadable = |e: io::Error| Error::new(ErrorKind::Io, format!("cannot read the archive: {e}")).because(e);
    let length = reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let budget = limits.bytes.min(length.saturating_mul(limits.ratio).max(SMALL));
    match form {
        Form::Zip => zipped(reader, limits, budget, visit),
        Form::Tar => tarred(Bounded { inner: reader, left: budget }, limits, visit),
        // The stream is counted as it comes out, entries that nobody reads included.
        Form::TarGz => tarred(Bounded { inner: MultiGzDecoder::new(reader), left: budget }, limits, visit),
        Form::Folder => Err(malformed("expected an archive, found a folder")),
    }
}

/// The files that the bytes of a wheel, zip, tar or tar.gz hold, as paths and lengths. Everything is read, nothing written; what
/// [`crate::store::Store::import`] refuses is refused.
pub fn archive_entries(bytes: &[u8], limits: &Limits) -> Result<Vec<(String, u64)>> {
    let mut reader = io::Cursor::new(bytes);
    let form =
        form(&mut reader).ok().flatten().ok_or_else(|| malformed("expected a wheel, a zip, a tar or a tar.gz"))?;
    let mut entries = vec![];
    visit(reader, form, limits, &mut |path, content| {
        let length = io::copy(content, &mut io::sink())
            .map_err(|e| malformed(format!("cannot read {path:?}: {e}")).because(e))?;
        entries.push((path.to_owned(), length));
        Ok(())
    })?;
    Ok(entries)
}

/// Lets so many bytes through and fails beyond.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "the archive holds more than its size allows: is it a bomb?")
        })?;
        Ok(n)
    }
}

fn zipped(reader: impl Read + Seek, limits: &Limits, budget: u64, visit: &mut Visit<'_>) -> Result<()> {
    let broken = |e: zip::result::ZipError| malformed(format!("no readable zip: {e}")).because(e);
    let mut archive = ZipArchive::new(reader).map_err(broken)?;
    counted(archive.len(), limits)?;
    let mut left = budget;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let kind = entry.unix_mode().map_or(0, |mode| mode & 0o170_000);
        if entry.is_dir() {
            plain(name.trim_end_matches('/'))?;
            continue;
        }
        if entry.is_symlink() || !matches!(kind, 0 | 0o100_000) {
            return Err(refused(&name, "a link or a device"));
        }
        let path = plain(&name)?;
        let mut bounded = Bounded { inner: &mut entry, left };
        visit(&path, &mut bounded)?;
        left = bounded.left;
    }
    Ok(())
}

fn tarred(reader: impl Read, limits: &Limits, visit: &mut Visit<'_>) -> Result<()> {
    let broken = |e: io::Error| malformed(format!("no readable tar: {e}")).because(e);
    let mut archive = tar::Archive::new(reader);
    let mut long: Option<String> = None;
    // Raw: the crate would read a long name of any length into memory.
    for (index, entry) in archive.entries().map_err(broken)?.raw(true).enumerate() {
        let mut entry = entry.map_err(broken)?;
        counted(index + 1, limits)?;
        let own = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let bytes = header(&mut entry, &own)?;
                let text = String::from_utf8(bytes).map_err(|_| refused(&own, "a name that is not UTF-8"))?;
                long = Some(text.trim_end_matches('\0').to_owned());
            }
            EntryType::XHeader => {
                for record in tar::PaxExtensions::new(&header(&mut entry, &own)?) {
                    let record = record.map_err(broken)?;
                    match record.key().unwrap_or_default() {
                        "path" => {
                            let text = record.value().map_err(|_| refused(&own, "a name that is not UTF-8"))?;
                            long = Some(text.to_owned());
                        }
                        "size" => return Err(refused(&own, "an entry of more than 8 GiB")),
                        key if key.starts_with("GNU.sparse") => return Err(refused(&own, "a sparse file")),
                        _ => {}
                    }
                }
            }
            EntryType::XGlobalHeader => {}
            EntryType::Directory => {
                let path = long.take().unwrap_or(own);
                if !path.trim_matches(['.', '/']).is_empty() {
                    plain(path.trim_end_matches('/'))?;
                }
            }
            EntryType::Regular | EntryType::Continuous => {
                let path = plain(&long.take().unwrap_or(own))?;
                visit(&path, &mut entry)?;
            }
            _ => return Err(refused(&long.take().unwrap_or(own), "a link, a device or an unknown entry")),
        }
    }
    Ok(())
}

/// The content of an entry that describes the next one.
fn header(entry: &mut tar::Entry<'_, impl Read>, path: &str) -> Result<Vec<u8>> {
    if entry.size() > LONGEST_HEADER {
        return Err(refused(path, "a header that is too long"));
    }
    let mut bytes = vec![];
    entry.read_to_end(&mut bytes).map_err(|e| malformed(format!("no readable tar: {e}")).because(e))?;
    Ok(bytes)
}

/// The files of a folder. Links to files are followed (a snapshot of the hub's cache is made of them), links to folders not.
fn folder(path: &Path, limits: &Limits, visit: &mut Visit<'_>) -> Result<()> {
    let names = snapshot::names(path);
    counted(names.len(), limits)?;
    let mut left = limits.bytes;
    for name in names {
        let from = path.join(&name);
        let file = File::open(&from).map_err(|e| Error::io("cannot open", &from, e))?;
        let mut bounded = Bounded { inner: file, left };
        visit(&name, &mut bounded)?;
        left = bounded.left;
    }
    Ok(())
}

fn counted(entries: usize, limits: &Limits) -> Result<()> {
    if entries > limits.entries {
        return Err(malformed(format!("the archive has more than {} entries", limits.entries)));
    }
    Ok(())
}

/// The path of an entry without `.` parts; an error where it could lead anywhere but below the root, on any system.
fn plain(path: &str) -> Result<String> {
    let mut parts = vec![];
    for part in path.split('/') {
        match part {
            "." => {}
            "" | ".." => return Err(refused(path, "a path that leads out of it")),
            _ if part.contains(['\\', ':']) || part.contains(char::is_control) => {
                return Err(refused(path, "a path that is not portable"));
            }
            _ => parts.push(part),
        }
    }
    if parts.is_empty() || path.len() > LONGEST_PATH {
        return Err(refused(path, "a path that is empty or too long"));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_away_are_refused() {
        for good in ["a", "a/b.c", "./a", "a/./b"] {
            assert!(!plain(good).unwrap().contains("./"), "{good}");
        }
        for bad in ["", "/a", "..", "a/../b", "a//b", "a\\b", "c:a", "a\0b", ".", "a/"] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
        assert!(plain(&"a/".repeat(1000)).is_err());
    }
}
