//! The vocabulary of a GGUF file as a `tokenizer.json`.

use super::Metadata;
use crate::config::{limit, malformed, unsupported};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use embral_formats::gguf::List;
use embral_types::Result;
use serde_json::{Map, Value, json};

/// What a token is, as SentencePiece counts.
mod kind {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// What stands for a space at the beginning of a word.
const WORD: char = '▁';

/// How Qwen2 and Qwen3 cut text before byte pairs are merged.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// How many tokens of a WordPiece vocabulary may begin with [`WORD`] itself: BERT's has one, and one of SentencePiece thousands.
const WORDS_OF_WORDS: usize = 16;

/// The bytes of a `tokenizer.json`, and whether a model with it is told to which text of a pair a token belongs: only those with a
/// WordPiece vocabulary are.
pub(super) fn json(meta: &Metadata<'_>) -> Result<(Vec<u8>, bool)> {
    let vocabulary = Vocabulary::read(meta)?;
    let (all, segments) = match meta.text("tokenizer.ggml.model")? {
        Some("bert") => (word_piece(meta, &vocabulary)?, true),
        Some("gpt2") => (byte_pairs(meta, &vocabulary)?, false),
        Some("t5") => (unigram(meta, &vocabulary)?, false),
        other => {
            return Err(unsupported(format!(
                "tokenizer.ggml.model: expected \"bert\", \"gpt2\" or \"t5\", found {}",
                other.map_or_else(|| "nothing".to_owned(), |name| format!("{name:?}"))
            ))
            .hint("take the model in safetensors, with its tokenizer.json"));
        }
    };
    Ok((all.to_string().into_bytes(), segments))
}

struct Vocabulary<'a> {
    tokens: &'a [String],
    /// Empty where the file does not say.
    kinds: &'a [i64],
}

impl<'a> Vocabulary<'a> {
    fn read(meta: &Metadata<'a>) -> Result<Self> {
        let tokens = meta.texts("tokenizer.ggml.tokens")?;
        if !limit::VOCAB.contains(&tokens.len()) {
            return Err(malformed(format!(
                "tokenizer.ggml.tokens: expected 1 to {} tokens, found {}",
                limit::VOCAB.end(),
                tokens.len()
            )));
        }
        let kinds = match meta.list("tokenizer.ggml.token_type") {
            None => &[],
            Some(List::Integers(kinds)) if kinds.len() == tokens.len() => &kinds[..],
            Some(_) => {
                return Err(malformed(format!(
                    "tokenizer.ggml.token_type: expected {} integers, found {}",
                    tokens.len(),
                    meta.describe("tokenizer.ggml.token_type")
                )));
            }
        };
        Ok(Self { tokens, kinds })
    }

    fn kind(&self, id: usize) -> i64 {
        self.kinds.get(id).copied().unwrap_or(0)
    }

    /// The id and the text of the first of `keys` that is stated.
    fn special(&self, meta: &Metadata<'_>, keys: &[&str]) -> Result<Option<(usize, &'a str)>> {
        for key in keys {
            let key = format!("tokenizer.ggml.{key}");
            if let Some(id) = super::integer(&key, meta.values.get(&key))? {
                let token = self.tokens.get(id).ok_or_else(|| {
                    malformed(format!("{key}: expected an id below {}, found {id}", self.tokens.len()))
                })?;
                return Ok(Some((id, token)));
            }
        }
        Ok(None)
    }

    /// Tokens that are found in the text before it is cut.
    fn added(&self, special: &[usize]) -> Vec<Value> {
        let ids = (0..self.tokens.len())
            .filter(|id| special.contains(id) || [kind::CONTROL, kind::USER_DEFINED].contains(&self.kind(*id)));
        ids.map(|id| {
            let is_special = special.contains(&id) || self.kind(id) == kind::CONTROL;
            json!({"id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": is_special})
        })
        .collect()
    }
}

fn required<T>(found: Option<T>, what: &str) -> Result<T> {
    found.ok_or_else(|| malformed(format!("tokenizer.ggml.{what}: the id is missing")))
}

/// A vocabulary in which words begin with [`WORD`] and other pieces with nothing.
fn word_piece(meta: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value> {
    let pieces = vocabulary.tokens.iter().filter(|token| token.starts_with("▁▁")).count();
    if pieces > WORDS_OF_WORDS {
        let message = format!(
            "tokenizer.ggml.tokens: expected a WordPiece vocabulary, as tokenizer.ggml.model says, found one of SentencePiece \
             ({pieces} tokens begin with \"▁▁\"): texts would be split in another way than in training"
        );
        return Err(
            unsupported(message).hint("take the model in safetensors, or a file whose tokenizer.ggml.model is \"t5\"")
        );
    }
    let cls = required(vocabulary.special(meta, &["cls_token_id", "bos_token_id"])?, "cls_token_id")?;
    let keys = ["seperator_token_id", "separator_token_id", "eos_token_id"];
    let sep = required(vocabulary.special(meta, &keys)?, "seperator_token_id")?;
    let unknown = required(vocabulary.special(meta, &["unknown_token_id"])?, "unknown_token_id")?;
    let padding = vocabulary.special(meta, &["padding_token_id"])?;
    let mask = vocabulary.special(meta, &["mask_token_id"])?;
    let special: Vec<usize> =
        [Some(cls), Some(sep), Some(unknown), padding, mask].into_iter().flatten().map(|t| t.0).collect();
    let mut words = Map::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        let word = match token.strip_prefix(WORD) {
            Some(word) => word.to_owned(),
            // Files before token types had other special tokens, such as [unused3], as they are.
            None if special.contains(&id)
                || vocabulary.kind(id) == kind::CONTROL
                || token.starts_with('[') && token.ends_with(']') && token.len() > 2 =>
            {
                token.clone()
            }
            None => format!("##{token}"),
        };
        words.insert(word, json!(id));
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": vocabulary.added(&special),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                       "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template(&[cls], &[sep]),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": unknown.1, "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": words},
    }))
}

/// SentencePiece's unigram model, as the XLM-RoBERTa family has it: words begin with [`WORD`], and the likeliest pieces are taken.
fn unigram(meta: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value> {
    let count = vocabulary.tokens.len();
    let scores = match meta.list("tokenizer.ggml.scores") {
        Some(List::Floats(scores)) if scores.len() == count && scores.iter().all(|s| s.is_finite()) => scores,
        _ => {
            let found = meta.describe("tokenizer.ggml.scores");
            return Err(malformed(format!("tokenizer.ggml.scores: expected {count} finite floats, found {found}")));
        }
    };
    let stated = vocabulary.special(meta, &["unknown_token_id"])?.map(|token| token.0);
    let unknown = stated.or_else(|| (0..count).find(|&id| vocabulary.kind(id) == kind::UNKNOWN));
    let unknown = required(unknown, "unknown_token_id")?;
    let first = required(vocabulary.special(meta, &["bos_token_id", "cls_token_id"])?, "bos_token_id")?;
    let keys = ["eos_token_id", "seperator_token_id", "separator_token_id"];
    let last = required(vocabulary.special(meta, &keys)?, "eos_token_id")?;
    // Where a file does not say, they are put: models of this family were never trained without.
    let put = |key: &str| meta.flag(&format!("tokenizer.ggml.{key}")).map(|stated| stated != Some(false));
    let before = if put("add_bos_token")? { vec![first] } else { Vec::new() };
    let after = if put("add_eos_token")? { vec![last] } else { Vec::new() };
    let special: Vec<usize> = [first, last]
        .into_iter()
        .chain(vocabulary.special(meta, &["padding_token_id"])?)
        .chain(vocabulary.special(meta, &["mask_token_id"])?)
        .map(|token| token.0)
        .chain([unknown])
        .collect();
    let pieces: Vec<Value> =
        vocabulary.tokens.iter().zip(scores).map(|(token, &score)| json!([token, f64::from(score)])).collect();
    let no_bytes = |found: &str| {
        malformed(format!("tokenizer.ggml.precompiled_charsmap: expected a list of bytes, found {found}"))
    };
    let normalizer = match meta.list("tokenizer.ggml.precompiled_charsmap") {
        None => Value::Null,
        Some(List::Integers(values)) => {
            // Files have them as bytes with a sign or without.
            let byte = |&b: &i64| u8::try_from(b).or_else(|_| i8::try_from(b).map(|b| b as u8)).ok();
            let bytes: Option<Vec<u8>> = values.iter().map(byte).collect();
            let bytes = bytes.ok_or_else(|| no_bytes("larger numbers"))?;
            json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes)})
        }
        Some(_) => return Err(no_bytes(&meta.describe("tokenizer.ggml.precompiled_charsmap"))),
    };
    let words = json!({"type": "Metaspace", "replacement": WORD, "prepend_scheme": "always", "split": true});
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": vocabulary.added(&special),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, words]},
        "post_processor": template(&before, &after),
        "decoder": words,
        "model": {"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": false},
    }))
}

/// Byte-level BPE.
fn byte_pairs(meta: &Metadata<'_>, vocabulary: &Vocabulary<'_>) -> Result<Value> {
    match meta.text("tokenizer.ggml.pre")? {
        Some("qwen2") => {}
        other => {
            let found = other.map_or_else(|| "nothing".to_owned(), |name| format!("{name:?}"));
            return Err(unsupported(format!("tokenizer.ggml.pre: expected \"qwen2\", found {found}"))
                .hint("take the model in safetensors, with its tokenizer.json"));
        }
    }
    let bos = vocabulary.special(meta, &["bos_token_id"])?;
    let eos = vocabulary.special(meta, &["eos_token_id"])?;
    let before: Vec<_> =
        bos.filter(|_| matches!(meta.flag("tokenizer.ggml.add_bos_token"), Ok(Some(true)))).into_iter().collect();
    let after: Vec<_> =
        eos.filter(|_| matches!(meta.flag("tokenizer.ggml.add_eos_token"), Ok(Some(true)))).into_iter().collect();
    let added = vocabulary.added(&[]);
    let is_added = |id| [kind::CONTROL, kind::USER_DEFINED].contains(&vocabulary.kind(id));
    let words: Map<String, Value> = vocabulary
        .tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| !is_added(*id))
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": template(&before, &after),
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": words, "merges": meta.texts("tokenizer.ggml.merges")?},
    }))
}

/// The special tokens around a text.
fn template(before: &[(usize, &str)], after: &[(usize, &str)]) -> Value {
    let special =
        |part: usize| move |&(_, token): &(usize, &str)| json!({"SpecialToken": {"id": token, "type_id": part}});
    let text = |name: &str, part: usize| json!({"Sequence": {"id": name, "type_id": part}});
    let first = || before.iter().map(special(0)).chain([text("A", 0)]).chain(after.iter().map(special(0)));
    let second = [text("B", 1)].into_iter().chain(after.iter().map(special(1)));
    let tokens: Map<String, Value> = before
        .iter()
        .chain(after)
        .map(|&(id, token)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    json!({"type": "TemplateProcessing", "single": first().collect::<Vec<_>>(),
           "pair": first().chain(second).collect::<Vec<_>>(), "special_tokens": tokens})
}
