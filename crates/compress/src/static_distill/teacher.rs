//! What the teacher says: the vector of every text, kept on disk as f16, since asking it takes most of the time of a run.
//!
//! A cache file is named after a hash of the model's files and of all texts. Behind a header of 24 bytes come the rows in the order
//! of the texts; a run that was stopped goes on behind the last whole row.

use crate::Progress;
use embral::Embedder;
use embral_types::{Error, ErrorKind, Result};
use half::f16;
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"EMBRVEC1";
const HEADER: usize = 24;
/// Texts sorted by length together, and written together.
const SHARD: usize = 8192;

/// Rows of length 1, as f16 bits: their rounding moves a cosine by less than 1e-4.
pub(crate) struct Vectors {
    bits: Vec<u16>,
    pub(crate) dim: usize,
}

impl Vectors {
    pub(crate) fn new(bits: Vec<u16>, dim: usize) -> Self {
        Self { bits, dim }
    }

    pub(crate) fn len(&self) -> usize {
        self.bits.len() / self.dim
    }

    /// Writes row `index` to `out` as f32.
    pub(crate) fn read(&self, index: usize, out: &mut [f32]) {
        for (to, &bits) in out.iter_mut().zip(&self.bits[index * self.dim..][..self.dim]) {
            *to = f16::from_bits(bits).to_f32();
        }
    }
}

/// The teacher's vectors of `texts`, out of the cache folder as far as they are there.
pub(crate) fn vectors(
    teacher: &Embedder,
    texts: &[String],
    cache: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<Vectors> {
    let dim = teacher.dimensions();
    let mut bits: Vec<u16> = Vec::with_capacity(texts.len() * dim);
    let mut file = match cache {
        Some(folder) => Some(CacheFile::open(folder, teacher, texts, &mut bits)?),
        None => None,
    };
    let known = bits.len() / dim;
    progress.begin("teacher vectors", texts.len() as u64, "texts");
    progress.advance(known as u64);
    for shard in texts[known..].chunks(SHARD) {
        let mut order: Vec<usize> = (0..shard.len()).collect();
        order.sort_by_key(|&i| shard[i].len());
        let mut rows = vec![0u16; shard.len() * dim];
        for part in order.chunks(SHARD / 16) {
            let sorted: Vec<&str> = part.iter().map(|&i| shard[i].as_str()).collect();
            let embedded = teacher.embed_batch(&sorted)?;
            for (&i, row) in part.iter().zip(embedded.rows()) {
                for (to, &value) in rows[i * dim..][..dim].iter_mut().zip(row) {
                    *to = f16::from_f32(value).to_bits();
                }
            }
            progress.advance(part.len() as u64);
        }
        if let Some(file) = &mut file {
            file.append(&rows)?;
        }
        bits.extend(rows);
    }
    Ok(Vectors::new(bits, dim))
}

struct CacheFile {
    path: PathBuf,
    file: File,
}

impl CacheFile {
    /// Opens or creates the file of this teacher and these texts, and reads its whole rows.
    fn open(folder: &Path, teacher: &Embedder, texts: &[String], bits: &mut Vec<u16>) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io("cannot create", folder, e))?;
        let (key, dim) = (key(teacher, texts)?, teacher.dimensions());
        let path = folder.join(format!("{key:016x}.vectors"));
        let cannot = |e| Error::io("cannot open", &path, e);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(cannot)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(cannot)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(key.to_le_bytes());
        header.extend((dim as u64).to_le_bytes());
        if bytes.is_empty() {
            file.write_all(&header).map_err(cannot)?;
        } else if bytes.get(..HEADER) != Some(&header[..]) {
            return Err(Error::new(ErrorKind::Malformed, "it is no cache of teacher vectors")
                .in_file(&path)
                .hint("remove it, or name another cache folder"));
        }
        let stored = bytes.len().max(HEADER) - HEADER;
        let rows = (stored / (2 * dim)).min(texts.len());
        // A row that was being written when the run was stopped is written again.
        file.set_len((HEADER + rows * 2 * dim) as u64).map_err(cannot)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(cannot)?;
        let values = bytes.get(HEADER..).unwrap_or_default().as_chunks::<2>().0;
        bits.extend(values[..rows * dim].iter().map(|&v| u16::from_le_bytes(v)));
        Ok(Self { path, file })
    }

    fn append(&mut self, rows: &[u16]) -> Result<()> {
        let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.flush())
            .map_err(|e| Error::io("cannot write", &self.path, e))
    }
}

/// FNV-1a over the files of the model's folder, by name, and the texts.
fn key(teacher: &Embedder, texts: &[String]) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for &byte in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    let info = teacher.info();
    add(info.name.as_bytes().rsplit(|&b| b == b'/').next().unwrap_or_default());
    add(&(info.max_tokens as u64).to_le_bytes());
    if let Some(folder) = &info.path {
        let cannot = |e| Error::io("cannot list", folder, e);
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            if path.extension().is_some_and(|e| e == "safetensors" || e == "json") {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            add(&fs::read(&path).map_err(|e| Error::io("cannot read", &path, e))?);
        }
    }
    for text in texts {
        add(text.as_bytes());
    }
    Ok(hash)
}
