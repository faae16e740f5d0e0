//! The shared edge cases, id by id, where the folder that holds them is there.

use embral_tokenize::{BertOptions, Options, Tokenizer, Truncation};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

#[derive(Deserialize)]
struct Row {
    id: String,
    text: String,
    ids: Vec<u32>,
}

fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if !found.exists() {
        println!("skipped: {} is not there", found.display());
        return None;
    }
    Some(found)
}

fn rows(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn all_equal(tokenizer: &Tokenizer, rows: &[Row]) {
    for row in rows {
        let encoded = tokenizer.encode(&row.text, "").unwrap();
        assert_eq!(encoded.ids, row.ids, "{}: {:?}", row.id, row.text);
    }
    println!("{} rows equal", rows.len());
}

#[test]
fn bert_uncased() {
    let Some(vocab) = shared("models/tokenizers/bert-base-uncased") else { return };
    let Some(expected) = shared("tokenizer_edge/minilm_expected_ids.jsonl") else { return };
    let tokenizer = Tokenizer::from_vocab(&vocab.join("vocab.txt"), &BertOptions::default()).unwrap();
    all_equal(&tokenizer, &rows(&expected));
}

#[test]
fn gpt2() {
    let Some(file) = shared("models/tokenizers/gpt2/tokenizer.json") else { return };
    let Some(expected) = shared("tokenizer_edge/gpt2_expected_ids.jsonl") else { return };
    let tokenizer = Tokenizer::from_file(&file).unwrap();
    all_equal(&tokenizer, &rows(&expected));
}

/// The rows again, cut at several limits, against the uncut ids.
#[test]
fn cuts_keep_the_special_tokens() {
    let Some(vocab) = shared("models/tokenizers/bert-base-uncased") else { return };
    let Some(expected) = shared("tokenizer_edge/minilm_expected_ids.jsonl") else { return };
    for limit in [2, 3, 7, 64] {
        for truncation in [Truncation::Right, Truncation::Left] {
            let options = Options { max_tokens: Some(limit), truncation, ..Options::default() };
            let tokenizer = Tokenizer::from_vocab(&vocab.join("vocab.txt"), &BertOptions::default()).unwrap();
            let tokenizer = tokenizer.with(options).unwrap();
            for row in rows(&expected) {
                let content = &row.ids[1..row.ids.len() - 1];
                let room = content.len().min(limit - 2);
                let kept = match truncation {
                    Truncation::Left => &content[content.len() - room..],
                    _ => &content[..room],
                };
                let encoded = tokenizer.encode(&row.text, "").unwrap();
                assert_eq!(encoded.ids, [&[101], kept, &[102]].concat(), "{} {limit} {truncation}", row.id);
                assert_eq!(encoded.truncated, room < content.len());
            }
        }
    }
}
