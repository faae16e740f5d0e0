//! Vectors that something else has made of known texts, as they are kept in a file (docs/verify.md).

use crate::{Prompt, base64, default_model};
use embral_models::catalogue;
use embral_types::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::path::Path;

/// The name of a reference in the folder of a model.
pub(super) const FILE: &str = "embral-reference.json";

/// The version of the format.
const VERSION: u32 = 1;

/// The references that are kept with the library, by the name of the model.
const STORED: [(&str, &str); 2] = [
    (default_model::NAME, include_str!("../../assets/references/embral-static-256.json")),
    ("all-MiniLM-L6-v2", include_str!("../../assets/references/all-MiniLM-L6-v2.json")),
];

/// Texts and their vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Where it comes from, for people.
    pub from: String,
    /// What made it, as it says.
    pub made_with: String,
    /// One a prompt.
    pub sets: Vec<Set>,
}

/// Texts with one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// The name of the prompt, where it has one.
    pub prompt: Option<String>,
    /// The text of the prompt, where it is stated.
    pub prompt_text: Option<String>,
    /// The texts, without the prompt.
    pub texts: Vec<String>,
    /// One a text, all as wide.
    pub embeddings: Vec<Vec<f32>>,
    /// The token ids of each text, special tokens and prompt included, where they are known.
    pub ids: Option<Vec<Vec<u32>>>,
}

impl Set {
    /// The prompt as the library takes it.
    pub(super) fn prompt(&self) -> Prompt<'_> {
        match (&self.prompt, &self.prompt_text) {
            (Some(name), _) => Prompt::Name(name),
            (None, Some(text)) => Prompt::Text(text),
            (None, None) => Prompt::Default,
        }
    }
}

#[derive(Deserialize)]
struct File {
    version: u32,
    #[serde(default)]
    made_with: String,
    sets: Vec<Stored>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    prompt: Option<String>,
    prompt_text: Option<String>,
    texts: Vec<String>,
    embeddings: Vec<Row>,
    ids: Option<Vec<Vec<u32>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Row {
    Numbers(Vec<f32>),
    Base64(String),
}

impl Reference {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read or is no reference.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
        Self::parse(&bytes, &path.display().to_string()).map_err(|e| e.in_file(path))
    }

    /// The reference that is kept with the library for a model, by any of its names.
    ///
    /// # Errors
    /// Never but for a defect of the library.
    pub fn stored(model: &str) -> Result<Option<Self>> {
        let name = catalogue::find(model).map_or(model, |entry| &entry.name);
        let name = if default_model::is_meant(name) { default_model::NAME } else { name };
        let found = STORED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found
            .map(|(known, json)| Self::parse(json.as_bytes(), &format!("the vectors of {known} inside embral")))
            .transpose()
    }

    /// Reads the bytes of a file; `from` says where they are from.
    ///
    /// # Errors
    /// Where they are no reference.
    pub fn parse(json: &[u8], from: &str) -> Result<Self> {
        let malformed = |message: String| Error::new(ErrorKind::Malformed, message);
        let file: File =
            serde_json::from_slice(json).map_err(|e| malformed(format!("no reference: {e}")).because(e))?;
        if file.version != VERSION {
            return Err(malformed(format!("version: expected {VERSION}, found {}", file.version)));
        }
        let sets = file.sets.into_iter().enumerate().map(|(index, set)| {
            let malformed = |message: String| malformed(format!("set {index}: {message}"));
            let row = |row: Row| match row {
                Row::Numbers(numbers) => Ok(numbers),
                Row::Base64(text) => base64::decode(&text),
            };
            let embeddings = set.embeddings.into_iter().map(row).collect::<Result<Vec<_>>>()?;
            let count = set.texts.len();
            if embeddings.len() != count {
                return Err(malformed(format!(
                    "expected a vector for each of {count} texts, found {}",
                    embeddings.len()
                )));
            }
            if let Some(ids) = set.ids.as_ref().filter(|ids| ids.len() != count) {
                return Err(malformed(format!("expected ids for each of {count} texts, found {}", ids.len())));
            }
            let width = embeddings.first().map_or(0, Vec::len);
            if width == 0 {
                return Err(malformed("expected texts with their vectors, found none".to_owned()));
            }
            if let Some(bad) = embeddings.iter().position(|row| row.len() != width) {
                let found = embeddings[bad].len();
                return Err(malformed(format!(
                    "expected {width} components in every vector, found {found} in that of text {bad}"
                )));
            }
            if let Some(bad) = embeddings.iter().position(|row| row.iter().any(|x| !x.is_finite())) {
                return Err(malformed(format!("expected finite numbers, found others in the vector of text {bad}")));
            }
            let Stored { prompt, prompt_text, texts, ids, .. } = set;
            Ok(Set { prompt, prompt_text, texts, embeddings, ids })
        });
        let sets = sets.collect::<Result<Vec<_>>>()?;
        if sets.is_empty() {
            return Err(malformed("sets: expected one at least, found none".to_owned()));
        }
        Ok(Self { from: from.to_owned(), made_with: file.made_with, sets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbers_or_base64_and_every_other_form_is_refused() {
        let parse = |json: &str| Reference::parse(json.as_bytes(), "here");
        let both = r#"{"version": 1, "sets": [{"texts": ["a", "b"], "embeddings": [[1, -0.5], "AACAPwAAAL8="]}]}"#;
        let read = parse(both).unwrap();
        assert_eq!(read.sets[0].embeddings, [[1.0, -0.5], [1.0, -0.5]]);
        assert_eq!(read.sets[0].prompt(), Prompt::Default);
        for (json, expected) in [
            ("[]", "no reference"),
            (r#"{"version": 2, "sets": []}"#, "version: expected 1, found 2"),
            (r#"{"version": 1, "sets": []}"#, "expected one at least"),
            (r#"{"version": 1, "sets": [{"texts": [], "embeddings": []}]}"#, "set 0: expected texts"),
            (r#"{"version": 1, "sets": [{"texts": ["a"], "embeddings": []}]}"#, "for each of 1 texts, found 0"),
            (r#"{"version": 1, "sets": [{"texts": ["a"], "embeddings": [[1]], "ids": []}]}"#, "expected ids"),
            (r#"{"version": 1, "sets": [{"texts": ["a", "b"], "embeddings": [[1], [1, 2]]}]}"#, "in that of text 1"),
            (r#"{"version": 1, "sets": [{"texts": ["a"], "embeddings": ["x"]}]}"#, "no base64"),
            (r#"{"version": 1, "sets": [{"texts": ["a"], "embeddings": ["AADAfw=="]}]}"#, "expected finite numbers"),
        ] {
            let e = parse(json).unwrap_err();
            assert!(e.to_string().contains(expected), "{json}: {e}");
        }
    }

    #[test]
    fn what_is_kept_with_the_library_is_whole() {
        for (name, _) in STORED {
            let reference = Reference::stored(name).unwrap().unwrap();
            assert!(reference.sets.iter().all(|set| set.texts.len() >= 6), "{name}");
        }
        assert!(
            Reference::stored("efficient").unwrap().is_some()
                && Reference::stored("ultra-efficient").unwrap().is_some()
        );
        assert_eq!(Reference::stored("bge-m3").unwrap(), None);
    }
}
