//! Semantic textual similarity: how well cosines of pairs of sentences order as people's scores do.

use super::{Embed, field, read, spearman};
use embral_types::{Embeddings, Error, ErrorKind, Result};
use std::path::Path;

/// Pairs of sentences and the similarity people gave them.
#[derive(Clone, Debug)]
pub struct Sts {
    /// The folder's and the file's name, as `stsb test`.
    pub name: String,
    /// The first sentences, then the second ones.
    texts: Vec<String>,
    scores: Vec<f64>,
}

impl Sts {
    /// Reads tab-separated values without quoting, with a line of names first: `score`, and `s1` and `s2` or `sentence1` and
    /// `sentence2`.
    ///
    /// # Errors
    /// Where the file is missing, a column is, or a score is no number.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let mut lines = text.lines().enumerate();
        let names: Vec<&str> = lines.next().map_or_else(Vec::new, |(_, line)| line.split('\t').collect());
        let column = |wanted: &[&str]| {
            names.iter().position(|name| wanted.contains(name)).ok_or_else(|| {
                let message = format!("expected a column {}, found {names:?}", wanted.join(" or "));
                Error::new(ErrorKind::Malformed, message).in_file(path)
            })
        };
        let (score, first, second) =
            (column(&["score"])?, column(&["s1", "sentence1"])?, column(&["s2", "sentence2"])?);
        let (mut firsts, mut seconds, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for (number, line) in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            let value = field(&columns, score, path, number)?;
            scores.push(value.parse().map_err(|_| {
                let message = format!("line {}: expected a score, found {value}", number + 1);
                Error::new(ErrorKind::Malformed, message).in_file(path)
            })?);
            firsts.push(field(&columns, first, path, number)?.to_owned());
            seconds.push(field(&columns, second, path, number)?.to_owned());
        }
        let part = |name: Option<&std::ffi::OsStr>| name.map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let name = format!("{} {}", part(path.parent().and_then(Path::file_name)), part(path.file_stem()));
        Ok(Self { name: name.trim().to_owned(), texts: [firsts, seconds].concat(), scores })
    }

    /// Spearman's correlation of the cosines with the scores.
    ///
    /// # Errors
    /// What `embed` fails with.
    pub fn spearman(&self, embed: Embed<'_>) -> Result<f64> {
        Ok(self.correlation(&embed(&self.texts)?))
    }

    /// The texts it needs: the first sentences, then the second ones.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// As [`Sts::spearman`], from the vectors of [`Sts::texts`], which have length 1.
    pub fn correlation(&self, vectors: &Embeddings) -> f64 {
        let (first, second) = vectors.as_slice().split_at(vectors.as_slice().len() / 2);
        let dim = vectors.dim();
        let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        let cosines: Vec<f64> = first.chunks(dim).zip(second.chunks(dim)).map(dot).collect();
        spearman(&cosines, &self.scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_by_the_names_of_its_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.tsv");
        std::fs::write(&path, "score\ts1\ts2\tgenre\n5.0\ta\ta \"b\tx\n1.5\ta\tc\tx\n0\tc\tb\tx\n").unwrap();
        let set = Sts::read(&path).unwrap();
        assert_eq!(set.texts(), ["a", "a", "c", "a \"b", "c", "b"]);
        let angle = |t: &String| {
            if t == "c" {
                1.0f32
            } else if t == "b" {
                2.5
            } else {
                0.2
            }
        };
        let embed = |texts: &[String]| {
            Ok(Embeddings::new(texts.iter().flat_map(|t| [angle(t).cos(), angle(t).sin()]).collect(), 2))
        };
        assert_eq!(set.spearman(&embed).unwrap(), 1.0);
        std::fs::write(&path, "score\ts1\n1\ta\n").unwrap();
        assert!(Sts::read(&path).unwrap_err().to_string().contains("expected a column s2 or sentence2"));
    }
}
