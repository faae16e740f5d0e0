//! The texts that are distilled on: plain lines, and pairs of a question and a passage.

use embral_types::{Error, ErrorKind, Result};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Distinct texts in the order of the files, where each file's lie among them, and which belong together.
#[derive(Debug, Default)]
pub(crate) struct Corpus {
    pub(crate) texts: Vec<String>,
    /// For each file the texts in it, repeated ones included.
    pub(crate) sources: Vec<Vec<u32>>,
    /// Pairs of texts, and the number of the file among those of pairs.
    pub(crate) pairs: Vec<Pair>,
}

/// Two texts that mean the same or answer each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) query: u32,
    pub(crate) passage: u32,
    pub(crate) file: u32,
}

impl Corpus {
    /// Reads `texts` (one a line) and `pairs` (JSON lines with the texts `q` and `p`). A folder stands for the `.txt` or `.jsonl`
    /// files in it, by name.
    pub(crate) fn read(texts: &[PathBuf], pairs: &[PathBuf]) -> Result<Self> {
        let mut corpus = Self::default();
        let mut known: HashMap<String, u32> = HashMap::new();
        for path in files(texts, "txt")? {
            let mut source = Vec::new();
            for line in read(&path)?.lines().filter(|line| !line.trim().is_empty()) {
                source.push(corpus.add(&mut known, line));
            }
            corpus.sources.push(source);
        }
        for (file, path) in files(pairs, "jsonl")?.into_iter().enumerate() {
            let mut source = Vec::new();
            for (number, line) in read(&path)?.lines().enumerate() {
                let wrong = |found: String| {
                    let message =
                        format!("line {}: expected a JSON object with texts q and p, found {found}", number + 1);
                    Error::new(ErrorKind::Malformed, message).in_file(&path)
                };
                let row: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
                let text = |key: &str| {
                    row[key].as_str().filter(|t| !t.trim().is_empty()).ok_or_else(|| wrong(format!("no {key}")))
                };
                let (query, passage) = (corpus.add(&mut known, text("q")?), corpus.add(&mut known, text("p")?));
                source.extend([query, passage]);
                corpus.pairs.push(Pair { query, passage, file: file as u32 });
            }
            corpus.sources.push(source);
        }
        if corpus.texts.is_empty() {
            return Err(
                Error::new(ErrorKind::InvalidInput, "the corpus has no texts").hint("give files with one text a line")
            );
        }
        Ok(corpus)
    }

    fn add(&mut self, known: &mut HashMap<String, u32>, text: &str) -> u32 {
        if let Some(&index) = known.get(text) {
            return index;
        }
        let index = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        known.insert(text.to_owned(), index);
        index
    }
}

fn files(paths: &[PathBuf], extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let cannot = |e| Error::io("cannot list", path, e);
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(cannot)? {
            let file = entry.map_err(cannot)?.path();
            if file.extension().is_some_and(|e| e == extension) {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("no .{extension} file in it")).in_file(path));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::io("cannot read", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_pairs_point_at_them() {
        let folder = tempfile::tempdir().unwrap();
        let (a, pairs) = (folder.path().join("a.txt"), folder.path().join("p.jsonl"));
        fs::write(&a, "one\n\n  \ntwo\none\n").unwrap();
        fs::write(&pairs, "{\"q\":\"two\",\"p\":\"three\"}\n").unwrap();
        let corpus = Corpus::read(&[folder.path().to_owned()], std::slice::from_ref(&pairs)).unwrap();
        assert_eq!(corpus.texts, ["one", "two", "three"]);
        assert_eq!(corpus.sources, [vec![0, 1, 0], vec![1, 2]]);
        assert_eq!(corpus.pairs, [Pair { query: 1, passage: 2, file: 0 }]);

        fs::write(&pairs, "{\"q\":\"two\"}\n").unwrap();
        let error = Corpus::read(&[a], &[pairs]).unwrap_err().to_string();
        assert!(error.contains("line 1: expected a JSON object with texts q and p, found no p"), "{error}");
    }

    #[test]
    fn an_empty_corpus_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Corpus::read(&[], &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Corpus::read(&[folder.path().to_owned()], &[]).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
