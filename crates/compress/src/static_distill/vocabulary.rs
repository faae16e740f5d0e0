//! Which tokens the table has a row for.
//!
//! A WordPiece vocabulary keeps its pieces and their ids, except those that no text of the corpus needs: their rows go to the words
//! that the corpus uses most and the teacher's tokenizer splits. WordPiece takes the longest piece first, so the result is again a
//! plain WordPiece tokenizer. Single characters stay whether they are seen or not, so that no script becomes unknown.
//! Any other kind of vocabulary is kept as it is.

use super::tokens::Tokens;
use embral_tokenize::{Options, Tokenizer};
use embral_types::{Error, ErrorKind, Result};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A word that is given a row stands this often in the corpus at least: fewer texts do not tell what it means.
const SEEN: u32 = 5;

/// A tokenizer and the `tokenizer.json` it was read from.
pub(crate) struct Vocabulary {
    pub(crate) tokenizer: Tokenizer,
    /// Compact JSON.
    pub(crate) json: Vec<u8>,
    /// Words that got a row.
    pub(crate) words: usize,
}

impl Vocabulary {
    /// The teacher's own, without special tokens, unknown token, truncation and padding.
    pub(crate) fn of_teacher(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|e| {
            Error::io("cannot read the tokenizer", &path, e).hint("a static table is written with a tokenizer.json")
        })?;
        let mut json: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(ErrorKind::Malformed, format!("is no JSON: {e}")).in_file(&path))?;
        (json["truncation"], json["padding"]) = (Value::Null, Value::Null);
        Self::from_json(&json, 0).map_err(|e| e.in_file(&path))
    }

    fn from_json(json: &Value, words: usize) -> Result<Self> {
        let bytes = json.to_string().into_bytes();
        let tokenizer = Tokenizer::from_bytes(&bytes)?;
        let drop_unknown = tokenizer.unknown().is_some();
        let tokenizer = tokenizer.with(Options { special_tokens: false, drop_unknown, ..Options::default() })?;
        Ok(Self { tokenizer, json: bytes, words })
    }

    /// Gives rows that `tokens` never needs, and those up to `rows`, to frequent words. `sources` lists the texts of each file.
    ///
    /// A word counts the sum over the files of the square root of its occurrences there, so that a word of many fields goes before
    /// a word of one.
    pub(crate) fn fitted(self, tokens: &Tokens, sources: &[Vec<u32>], rows: usize) -> Result<Self> {
        let mut json: Value = serde_json::from_slice(&self.json).expect("it was written from JSON");
        let model = &json["model"];
        let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("##").to_owned();
        if model["type"] != "WordPiece" {
            return Ok(self);
        }
        let pieces: Vec<String> =
            (0..self.tokenizer.vocab_size() as u32).map(|id| self.tokenizer.token(id).unwrap_or_default()).collect();
        let special: BTreeSet<u64> =
            json["added_tokens"].as_array().into_iter().flatten().filter_map(|t| t["id"].as_u64()).collect();
        let seen = tokens.counts(pieces.len());
        let single = |piece: &str| piece.strip_prefix(&prefix).unwrap_or(piece).chars().count() <= 1;
        let free: Vec<usize> = (0..pieces.len())
            .filter(|&id| seen[id] == 0 && !special.contains(&(id as u64)) && !single(&pieces[id]))
            .collect();
        let slots: Vec<usize> = free.iter().copied().chain(pieces.len()..rows.max(pieces.len())).collect();
        let words = split_words(tokens, sources, &pieces, &prefix, slots.len());

        let table = json["model"]["vocab"].as_object_mut().ok_or_else(|| {
            Error::new(ErrorKind::Malformed, "expected model.vocab to be an object of pieces and ids")
        })?;
        for (&slot, word) in slots.iter().zip(&words) {
            if let Some(piece) = pieces.get(slot) {
                table.remove(piece);
            }
            table.insert(word.clone(), slot.into());
        }
        Self::from_json(&json, words.len())
    }
}

/// The `limit` best words that the vocabulary splits, best first.
fn split_words(tokens: &Tokens, sources: &[Vec<u32>], pieces: &[String], prefix: &str, limit: usize) -> Vec<String> {
    let mut score: BTreeMap<Vec<u32>, (f64, u32)> = BTreeMap::new();
    let goes_on: Vec<bool> =
        pieces.iter().map(|piece| piece.len() > prefix.len() && piece.starts_with(prefix)).collect();
    for source in sources {
        let mut count: BTreeMap<&[u32], u32> = BTreeMap::new();
        for &text in source {
            for word in tokens.text(text).chunk_by(|_, &next| goes_on[next as usize]).filter(|word| word.len() > 1) {
                *count.entry(word).or_default() += 1;
            }
        }
        for (word, count) in count {
            let entry = score.entry(word.to_vec()).or_default();
            entry.0 += f64::from(count).sqrt();
            entry.1 += count;
        }
    }
    let spelled = |word: &[u32]| -> String {
        let rest = word[1..].iter().map(|&id| &pieces[id as usize][prefix.len()..]);
        std::iter::once(pieces[word[0] as usize].as_str()).chain(rest).collect()
    };
    let mut words: Vec<(f64, String)> = score
        .into_iter()
        .filter(|(_, (_, count))| *count >= SEEN)
        .map(|(word, (score, _))| (score, spelled(&word)))
        .filter(|(_, word)| word.chars().all(char::is_alphabetic))
        .collect();
    words.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    words.truncate(limit);
    words.into_iter().map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vocabulary() -> Vocabulary {
        let vocab: serde_json::Map<String, Value> =
            ["[PAD]", "[UNK]", "[unused0]", "never", "b", "##b", "dog", "data", "##set", "##s", "é"]
                .iter()
                .enumerate()
                .map(|(id, piece)| ((*piece).to_owned(), id.into()))
                .collect();
        let special = |id: u32, content: &str| json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]")],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}
        });
        Vocabulary::from_json(&json, 0).unwrap()
    }

    #[test]
    fn rows_nobody_needs_go_to_words_that_are_split() {
        let texts: Vec<String> =
            std::iter::repeat_n("dog datasets".to_owned(), 6).chain(["dataset b".to_owned()]).collect();
        let first = vocabulary();
        let tokens = Tokens::of(&embral_kernels::Pool::shared(Some(1)), &first.tokenizer, &texts, 100).unwrap();
        let sources = vec![(0..7).collect::<Vec<u32>>()];
        let fitted = first.fitted(&tokens, &sources, 11).unwrap();
        // Two slots are free ([unused0], never); "dataset" alone is too rare, the single characters stay.
        assert_eq!(fitted.words, 1);
        assert_eq!(fitted.tokenizer.encode("DATASETS dog", "").unwrap().ids, [2, 6]);
        assert_eq!(fitted.tokenizer.id("é").unwrap(), 10);
        assert_eq!(fitted.tokenizer.id("never"), Some(3));
        assert_eq!(fitted.tokenizer.id("[unused0]"), None);
    }
}
