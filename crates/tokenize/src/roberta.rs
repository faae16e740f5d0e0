//! The tokenizer of RoBERTa from its first two files, `vocab.json` and `merges.txt`, as the `tokenizer.json` that they stand for.

use embral_types::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

/// The special tokens, each of which the vocabulary has; the last takes the space before it.
const SPECIAL: [&str; 5] = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"];

/// A `tokenizer.json` of byte-level pairs that puts a text between `<s>` and `</s>`.
pub(crate) fn json_of(vocabulary: &[u8], merges: &[u8], prefix_space: bool) -> Result<Vec<u8>> {
    let malformed = |message: String| Error::new(ErrorKind::Malformed, message);
    let vocabulary: Map<String, Value> =
        serde_json::from_slice(vocabulary).map_err(|e| malformed(format!("no vocab.json: {e}")).because(e))?;
    let merges = std::str::from_utf8(merges).map_err(|e| malformed(format!("no merges.txt: {e}")).because(e))?;
    let id = |token: &str| {
        let id = vocabulary.get(token).and_then(Value::as_u64);
        id.ok_or_else(|| malformed(format!("vocab.json: expected an id of {token:?}, found none")))
    };
    let mut added = Vec::new();
    for token in SPECIAL {
        added.push(json!({
            "id": id(token)?, "content": token, "single_word": false, "lstrip": token == "<mask>", "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty()).collect();
    let [first, last] = ["<s>", "</s>"];
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": true});
    let whole = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": bytes,
        "post_processor": {
            "type": "RobertaProcessing", "sep": [last, id(last)?], "cls": [first, id(first)?],
            "trim_offsets": true, "add_prefix_space": prefix_space,
        },
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges,
        },
    });
    serde_json::to_vec(&whole).map_err(|e| malformed(format!("no vocab.json: {e}")).because(e))
}

#[cfg(test)]
mod tests {
    use crate::Tokenizer;

    #[test]
    fn a_text_stands_between_its_two_tokens() {
        let vocabulary =
            br#"{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6, "\u0120": 7, "<mask>": 8}"#;
        let merges = b"#version: 0.2\na b\n";
        let ids = |prefix_space| {
            let tokenizer = Tokenizer::from_pairs_bytes(vocabulary, merges, prefix_space).unwrap();
            tokenizer.encode("ab a<mask>", "").unwrap().ids
        };
        assert_eq!(ids(false), [0, 6, 7, 4, 8, 2]);
        assert_eq!(ids(true), [0, 7, 6, 7, 4, 8, 2]);
        let refused = |vocabulary: &[u8], merges: &[u8]| {
            Tokenizer::from_pairs_bytes(vocabulary, merges, false).unwrap_err().message().to_owned()
        };
        assert!(refused(b"{\"<s>\": 0}", merges).contains("expected an id of \"</s>\""));
        assert!(refused(b"[]", merges).starts_with("no vocab.json"));
        assert!(refused(vocabulary, &[0xff]).starts_with("no merges.txt"));
        assert!(!refused(vocabulary, b"a c\n").is_empty(), "a merge of pieces that are not there");
    }
}
