//! An output that survives a kill: `OUT.partial` holds the rows, `OUT.partial.json` says how many of them are whole.
//!
//! The journal is written only after the rows it counts are on the disk, and it is replaced in one step, so at any moment
//! it tells the truth: a resumed run cuts the rows to its length and goes on behind them. The output gets its name when it
//! is complete, so a file of that name is never half a result.

use crate::failure::usage;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// What an unfinished run has done and how it was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// The form of the journal.
    version: u32,
    /// Settings that a run must share to go on with this one, by the name of their flag.
    pub(crate) settings: BTreeMap<String, String>,
    /// The first components of a fixed text's vector: another model of the same name shows.
    pub(crate) probe: Vec<f32>,
    /// Rows that are whole.
    pub(crate) rows: u64,
    /// Bytes of `OUT.partial` that hold them.
    pub(crate) bytes: u64,
    /// The hash of the ids and texts of those rows.
    pub(crate) chain: u64,
}

/// The form that this version writes.
const VERSION: u32 = 1;

/// The probes of one model on two machines differ by rounding, those of two models by much more.
const PROBE_TOLERANCE: f32 = 1e-3;

impl Journal {
    /// A run that has done nothing yet.
    pub(crate) fn new(settings: BTreeMap<String, String>, probe: Vec<f32>) -> Self {
        Self { version: VERSION, settings, probe, ..Self::default() }
    }

    /// Fails where a run of `other`'s settings cannot go on with this one.
    pub(crate) fn ensure_same(&self, other: &Self) -> Result<()> {
        let again = "give the same settings, or start again with --overwrite";
        let names: std::collections::BTreeSet<&String> = self.settings.keys().chain(other.settings.keys()).collect();
        for name in names {
            let (was, is) = (self.settings.get(name), other.settings.get(name));
            if was != is {
                let show = |v: Option<&String>| v.map_or_else(|| "not set".to_owned(), Clone::clone);
                bail!("cannot resume: {name} was {} and is {}: {again}", show(was), show(is));
            }
        }
        let near = self.probe.len() == other.probe.len()
            && self.probe.iter().zip(&other.probe).all(|(a, b)| (a - b).abs() <= PROBE_TOLERANCE);
        if !near {
            bail!("cannot resume: the model gives other vectors than the one that the run began with: {again}");
        }
        Ok(())
    }
}

/// What lies where the output is to be.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing in the way.
    Nothing,
    /// A run to go on with.
    Unfinished(Box<Journal>),
    /// The whole output.
    Complete,
}

/// The names of an output and of its unfinished forms.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The output.
    pub(crate) out: PathBuf,
    rows: PathBuf,
    journal: PathBuf,
}

impl Names {
    pub(crate) fn new(out: &Path) -> Self {
        let with = |end: &str| {
            let mut name = out.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self { out: out.to_owned(), rows: with(".partial"), journal: with(".partial.json") }
    }

    /// Looks at what is there and decides by the flags what to do about it.
    pub(crate) fn find(&self, resume: bool, overwrite: bool) -> Result<Found> {
        let out = self.out.display();
        let folder = self.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            bail!("the folder {} does not exist: create it first", folder.display());
        }
        if overwrite {
            return Ok(Found::Nothing);
        }
        let journal = (resume && self.journal.exists()).then(|| self.read_journal()).transpose()?;
        match (self.out.exists(), self.rows.exists(), journal) {
            (_, true, Some(journal)) if resume => Ok(Found::Unfinished(Box::new(journal))),
            (true, false, journal) if resume => {
                if journal.is_some() {
                    fs::remove_file(&self.journal)
                        .with_context(|| format!("cannot remove {}", self.journal.display()))?;
                }
                Ok(Found::Complete)
            }
            (true, ..) => Err(usage(format!("{out} exists: pass --overwrite to replace it, or another name"))),
            (false, true, _) if !resume => Err(usage(format!(
                "{} holds the rows of an unfinished run: pass --resume to go on with it, or --overwrite to start again",
                self.rows.display()
            ))),
            _ => Ok(Found::Nothing),
        }
    }

    fn read_journal(&self) -> Result<Journal> {
        let name = self.journal.display();
        let bytes = fs::read(&self.journal).with_context(|| format!("cannot read {name}"))?;
        let journal: Journal = serde_json::from_slice(&bytes)
            .map_err(|e| anyhow::anyhow!("{name}: no journal of a run: {e}: start again with --overwrite"))?;
        if journal.version != VERSION {
            bail!("{name}: written by another version of embral: start again with --overwrite");
        }
        Ok(journal)
    }
}

/// An output under way.
pub(crate) struct Partial {
    names: Names,
    file: File,
    journal: Journal,
    named: bool,
}

/// An output that failed before a row of it was safe leaves nothing behind.
impl Drop for Partial {
    fn drop(&mut self) {
        if !self.named && self.journal.rows == 0 {
            for file in [&self.names.rows, &self.names.journal] {
                // A file that stays is replaced by the next run.
                let _ = fs::remove_file(file);
            }
        }
    }
}

impl Partial {
    /// Begins an output, or opens the one that `journal` counts rows of, cut to them.
    pub(crate) fn open(names: Names, journal: Journal) -> Result<Self> {
        let name = names.rows.display().to_string();
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&names.rows);
        let file = file.with_context(|| format!("cannot write {name}"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!("{name} is being written by another run: wait for it, or give another name")
            }
            // A file system without locks leaves the user to not run two at once.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let length = file.metadata().with_context(|| format!("cannot read {name}"))?.len();
        if length < journal.bytes {
            bail!("{name} has {length} bytes where the journal counts {}: start again with --overwrite", journal.bytes);
        }
        let mut partial = Self { names, file, journal, named: false };
        // A fresh run overwrites the journal of the old one before it touches the rows that this counts.
        partial.write_journal()?;
        partial.file.set_len(partial.journal.bytes).with_context(|| format!("cannot write {name}"))?;
        partial.file.seek(SeekFrom::Start(partial.journal.bytes))?;
        Ok(partial)
    }

    /// The rows so far, to be read; the next write goes behind them again.
    pub(crate) fn read<T>(&mut self, read: impl FnOnce(&mut File, u64) -> Result<T>) -> Result<T> {
        let bytes = self.journal.bytes;
        let result =
            read(&mut self.file, bytes).with_context(|| format!("cannot resume {}", self.names.rows.display()))?;
        self.file.seek(SeekFrom::Start(bytes))?;
        Ok(result)
    }

    /// The state on the disk.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.names.rows.display()))
    }

    /// Makes sure that the first `rows` rows in the first `bytes` bytes survive whatever comes.
    pub(crate) fn commit(&mut self, rows: u64, bytes: u64, chain: u64) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.names.rows.display()))?;
        self.journal = Journal { rows, bytes, chain, ..std::mem::take(&mut self.journal) };
        self.write_journal()
    }

    fn write_journal(&self) -> Result<()> {
        let fresh = self.names.journal.with_extension("json.new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&serde_json::to_vec(&self.journal)?)?;
            file.sync_data()?;
            fs::rename(&fresh, &self.names.journal)
        };
        write().with_context(|| format!("cannot write {}", self.names.journal.display()))
    }

    /// Replaces the bytes at the start, gives the output its name and removes the journal.
    pub(crate) fn finish(mut self, start: Option<&[u8]>) -> Result<()> {
        let out = self.names.out.display().to_string();
        let mut close = || -> std::io::Result<()> {
            if let Some(start) = start {
                self.file.rewind()?;
                self.file.write_all(start)?;
            }
            self.file.sync_all()?;
            fs::rename(&self.names.rows, &self.names.out)?;
            fs::remove_file(&self.names.journal)
        };
        close().with_context(|| format!("cannot complete {out}"))?;
        self.named = true;
        Ok(())
    }
}

/// Copies a spooled output to where it goes.
pub(super) fn copy(file: &mut File, to: &mut dyn Write) -> std::io::Result<()> {
    file.rewind()?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return to.flush();
        }
        to.write_all(&buffer[..n])?;
    }
}
