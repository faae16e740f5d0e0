//! Packed weights in a file: runs of bytes found by 128-bit keys, to be mapped rather than made again.
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | `EMBRALPK` |
//! | 8..12, 12..16 | version, number of runs |
//! | 16..32 | what the runs are good for: a hash that the caller gives |
//! | 32..40 | checksum of bytes 0..32 and the table |
//! | 64.. | the table, 40 bytes a run: key (16), offset, length, checksum (8 each); keys ascend |
//! | then | the runs, each from a multiple of 64 on |
//!
//! Numbers are little-endian, hashes those of XXH3. It tells damage, not malice: a file that anybody else may write is not to be read.

use crate::FileBytes;
use embral_types::{Error, ErrorKind, Result};
use std::{
    fs,
    hash::Hasher as _,
    io::{self, BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use twox_hash::{XxHash3_64, XxHash3_128};

const MAGIC: &[u8; 8] = b"EMBRALPK";
const VERSION: u32 = 1;
/// Bytes before the table.
const HEADER: usize = 64;
/// Bytes of the header that its checksum covers.
const CHECKED: usize = 32;
/// Bytes of a row of the table.
const ROW: usize = 40;
/// Runs begin at multiples of a cache line.
const ALIGNMENT: usize = 64;

/// The hash by which runs are found: XXH3, 128 bits. 90 MB in the page cache take 3 ms, or 14 ms where they have to be mapped first.
pub fn hash(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// A file of runs, mapped.
#[derive(Debug)]
pub struct PackedFile {
    bytes: Arc<FileBytes>,
    /// By key.
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    key: u128,
    range: Range<usize>,
    checksum: u64,
}

/// The bytes of a run. They stay mapped for as long as it lives.
#[derive(Clone, Debug)]
pub struct Run {
    bytes: Arc<FileBytes>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Run {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

/// What is written: its key, and its bytes in pieces.
pub type NewRun<'a> = (u128, Vec<&'a [u8]>);

impl PackedFile {
    /// Maps a file and reads its table. `purpose` is what the runs have to be good for.
    ///
    /// # Errors
    /// Where the file cannot be read, is no such file, was made for something else, or has a table that is damaged or does not
    /// agree with the length of the file.
    pub fn open(path: &Path, purpose: u128) -> Result<Self> {
        Self::from_bytes(path, FileBytes::open(path)?, purpose)
    }

    /// Reads the table of a file that is in memory; `name` stands in errors.
    pub fn from_bytes(name: &Path, bytes: impl Into<FileBytes>, purpose: u128) -> Result<Self> {
        let bytes = bytes.into();
        let rows = table(&bytes, purpose)
            .map_err(|message| Error::new(ErrorKind::Malformed, message).in_file(name).hint("remove the file"))?;
        Ok(Self { bytes: Arc::new(bytes), rows })
    }

    /// The run of that key; nothing where there is none, or its bytes are not those that were written. Reads all of them.
    pub fn get(&self, key: u128) -> Option<Run> {
        let row = &self.rows[self.rows.binary_search_by_key(&key, |row| row.key).ok()?];
        let run = Run { bytes: Arc::clone(&self.bytes), range: row.range.clone() };
        (XxHash3_64::oneshot(run.as_ref()) == row.checksum).then_some(run)
    }

    /// The keys there are, ascending.
    pub fn keys(&self) -> impl Iterator<Item = u128> {
        self.rows.iter().map(|row| row.key)
    }
}

/// Reads the table, or says what is wrong.
fn table(bytes: &[u8], purpose: u128) -> Result<Vec<Row>, String> {
    let header =
        bytes.get(..HEADER).ok_or_else(|| format!("expected {HEADER} bytes or more, found {}", bytes.len()))?;
    if &header[..8] != MAGIC {
        return Err("expected a file of packed weights".to_owned());
    }
    let version = u32::from_le_bytes(array(header, 8));
    if version != VERSION {
        return Err(format!("expected version {VERSION}, found {version}"));
    }
    if u128::from_le_bytes(array(header, 16)) != purpose {
        return Err("the weights are packed for another machine or version".to_owned());
    }
    let count = u32::from_le_bytes(array(header, 12)) as usize;
    let cut_off = || format!("expected a table of {count} runs in a file of {} bytes", bytes.len());
    let end = count.checked_mul(ROW).and_then(|len| len.checked_add(HEADER)).ok_or_else(cut_off)?;
    let table = bytes.get(HEADER..end).ok_or_else(cut_off)?;
    if table_checksum(&header[..CHECKED], table) != u64::from_le_bytes(array(header, CHECKED)) {
        return Err("the table is damaged".to_owned());
    }
    let mut rows: Vec<Row> = Vec::with_capacity(count);
    for (i, row) in table.chunks_exact(ROW).enumerate() {
        let key = u128::from_le_bytes(array(row, 0));
        let place = |at| usize::try_from(u64::from_le_bytes(array(row, at))).ok();
        let range = place(16).zip(place(24)).and_then(|(start, len)| Some(start..start.checked_add(len)?));
        let range = range
            .filter(|r| r.start >= end && r.start.is_multiple_of(ALIGNMENT) && r.end <= bytes.len())
            .ok_or_else(|| format!("expected run {i} in its place within {} bytes", bytes.len()))?;
        if rows.last().is_some_and(|before| before.key >= key) {
            return Err(format!("expected ascending keys, found that of run {i}"));
        }
        rows.push(Row { key, range, checksum: u64::from_le_bytes(array(row, 32)) });
    }
    Ok(rows)
}

/// `N` bytes from `at` on, which the caller knows to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

fn table_checksum(header: &[u8], table: &[u8]) -> u64 {
    XxHash3_64::oneshot(&[header, table].concat())
}

/// Writes a file of runs and gives its length. Of runs of one key the first is kept.
///
/// The file is written under another name and renamed, so that one of its name is whole, whoever else writes it at the same time. It
/// is not waited for until it is on the disk: a file that a failure of power has left without its bytes is told by its checksums.
///
/// # Errors
/// Where the file cannot be written. Nothing is left behind then.
pub fn write(path: &Path, purpose: u128, runs: &[NewRun<'_>]) -> Result<u64> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let part = path.with_extension(format!("{}-{number}.{PARTIAL}", std::process::id()));
    let written = write_new(&part, purpose, runs).and_then(|len| fs::rename(&part, path).map(|()| len));
    written.map_err(|e| {
        // What cannot be removed cannot be helped, and the error is that of writing.
        let _ = fs::remove_file(&part);
        Error::io("cannot write", path, e)
    })
}

/// The extension of a file that is being written.
pub const PARTIAL: &str = "partial";

fn write_new(path: &PathBuf, purpose: u128, runs: &[NewRun<'_>]) -> io::Result<u64> {
    let mut runs: Vec<&NewRun<'_>> = runs.iter().collect();
    runs.sort_by_key(|run| run.0);
    runs.dedup_by_key(|run| run.0);
    let count = u32::try_from(runs.len()).map_err(io::Error::other)?;
    let mut at = (HEADER + ROW * runs.len()).next_multiple_of(ALIGNMENT);
    let mut table = Vec::with_capacity(ROW * runs.len());
    for (key, pieces) in &runs {
        let mut checksum = XxHash3_64::new();
        pieces.iter().for_each(|piece| checksum.write(piece));
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        table.extend(key.to_le_bytes());
        table.extend((at as u64).to_le_bytes());
        table.extend((len as u64).to_le_bytes());
        table.extend(checksum.finish().to_le_bytes());
        at = (at + len).next_multiple_of(ALIGNMENT);
    }
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(count.to_le_bytes());
    header.extend(purpose.to_le_bytes());
    header.extend(table_checksum(&header, &table).to_le_bytes());
    header.resize(HEADER, 0);

    let mut out = BufWriter::new(fs::OpenOptions::new().write(true).create_new(true).open(path)?);
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        len += bytes.len();
        out.write_all(bytes)
    };
    put(&header)?;
    put(&table)?;
    let mut written = header.len() + table.len();
    for (_, pieces) in &runs {
        put(&[0; ALIGNMENT][..written.next_multiple_of(ALIGNMENT) - written])?;
        written = written.next_multiple_of(ALIGNMENT);
        for piece in pieces {
            put(piece)?;
            written += piece.len();
        }
    }
    out.into_inner()?;
    Ok(len as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: u128 = 7;

    fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.packed");
        let runs = [(9, vec![&b"abc"[..], b"defg"]), (2, vec![&[5; 100]]), (4, vec![]), (9, vec![&b"second"[..]])];
        let len = write(&path, PURPOSE, &runs).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(len, bytes.len() as u64);
        (folder, path, bytes)
    }

    #[test]
    fn runs_come_back_by_key_on_cache_lines() {
        let (folder, path, _) = written();
        let file = PackedFile::open(&path, PURPOSE).unwrap();
        assert_eq!(file.keys().collect::<Vec<_>>(), [2, 4, 9]);
        assert_eq!(file.get(9).unwrap().as_ref(), b"abcdefg");
        assert_eq!(file.get(2).unwrap().as_ref(), [5; 100]);
        assert_eq!(file.get(4).unwrap().as_ref(), b"");
        assert!(file.get(3).is_none());
        assert!(file.get(2).unwrap().as_ref().as_ptr().addr().is_multiple_of(ALIGNMENT));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        assert!(PackedFile::open(&path, PURPOSE + 1).unwrap_err().to_string().contains("another machine"));
        write(&path, PURPOSE, &[]).unwrap();
        assert_eq!(PackedFile::open(&path, PURPOSE).unwrap().keys().count(), 0);
        assert_eq!(file.get(2).unwrap().as_ref(), [5; 100], "a file that is replaced stays mapped");
    }

    #[test]
    fn every_damaged_byte_and_every_lost_end_is_told() {
        let (_folder, path, bytes) = written();
        let whole = |bytes: Vec<u8>| {
            let file = PackedFile::from_bytes(&path, bytes, PURPOSE).ok()?;
            Some([2, 4, 9].map(|key| file.get(key).map(|run| run.as_ref().to_vec())))
        };
        let wanted = whole(bytes.clone()).unwrap();
        assert!(wanted.iter().all(Option::is_some));
        for len in 0..bytes.len() {
            assert_ne!(whole(bytes[..len].to_vec()), Some(wanted.clone()), "{len} bytes");
        }
        // What lies between header, table and runs is not read.
        let unread = |at: usize| (40..64).contains(&at) || (184..192).contains(&at) || (292..320).contains(&at);
        for at in (0..bytes.len()).filter(|&at| !unread(at)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_ne!(whole(damaged), Some(wanted.clone()), "byte {at}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let e = write(&folder.path().join("none/m.packed"), PURPOSE, &[]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
    }
}
