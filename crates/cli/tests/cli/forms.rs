//! Vectors in fewer bits and as text: which format takes which form, ranges that are kept, and searches of the bits.

use crate::process::{embeddings, good, run, write_texts};
use half::f16;
use std::fs;

/// The strings of `"embedding"` in lines of JSON.
fn texts(lines: &str) -> Vec<String> {
    let text = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    lines.lines().map(|line| text(line)["embedding"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_format_takes_every_form_of_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 150);
    good(at, "calibrate in.txt -m $BERT -q");
    for (form, width, descr) in
        [("f16", 2 * 32, "<f2"), ("int8", 32, "|i1"), ("uint8", 32, "|u1"), ("binary", 4, "|i1"), ("ubinary", 4, "|u1")]
    {
        for format in ["jsonl", "csv", "npy", "raw", "parquet"] {
            good(at, &format!("embed -i in.txt -m $BERT -o out.{format} --output {form} -q -f"));
        }
        let raw = fs::read(at.join("out.raw")).unwrap();
        assert_eq!(raw.len(), 150 * width, "{form}");
        let npy = fs::read(at.join("out.npy")).unwrap();
        assert!(npy[10..].starts_with(format!("{{'descr': '{descr}'").as_bytes()));
        assert_eq!(npy[128..], raw);
        let numbers: Vec<f32> = match form {
            "f16" => raw.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            "int8" | "binary" => raw.iter().map(|&b| f32::from(b as i8)).collect(),
            _ => raw.iter().map(|&b| f32::from(b)).collect(),
        };
        let lines = fs::read_to_string(at.join("out.jsonl")).unwrap();
        assert_eq!(embeddings(&lines).concat(), numbers);
        let table = fs::read_to_string(at.join("out.csv")).unwrap();
        let cells = table.lines().skip(1).flat_map(|line| line.split(',').skip(1));
        assert!(cells.map(|c| c.parse::<f32>().unwrap()).eq(numbers.iter().copied()), "{form}");
        let columns = crate::formats::tables::numbers(&at.join("out.parquet"));
        assert_eq!(columns, numbers, "{form}");
        // And as text: the bytes of the row.
        let lines = good(at, &format!("embed -i in.txt -m $BERT --output {form} --base64"));
        let decoded: Vec<u8> = texts(&lines).iter().flat_map(|t| embral::base64::decode_bytes(t).unwrap()).collect();
        assert_eq!(decoded, raw);
    }
}

#[test]
fn floats_in_base64_are_the_floats_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 20);
    let floats = embeddings(&good(at, "embed -i in.txt -m $BERT"));
    let lines = good(at, "embed -i in.txt -m $BERT --base64");
    let decoded: Vec<Vec<f32>> = texts(&lines).iter().map(|t| embral::base64::decode(t).unwrap()).collect();
    assert_eq!(decoded, floats);
    good(at, "embed -i in.txt -m $BERT --base64 --with-text -o out.csv");
    let table = fs::read_to_string(at.join("out.csv")).unwrap();
    assert_eq!(table.lines().next(), Some("index,text,embedding"));
    assert!(table.lines().nth(3).unwrap().ends_with(&embral::base64::encode(&floats[2])));
    for format in ["npy", "raw", "parquet", "short"] {
        let refused = run(at, &format!("embed x -m $BERT --base64 --format {format}"));
        assert_eq!(refused.code, Some(2));
        assert!(refused.err.contains("for JSONL and CSV"), "{}", refused.err);
    }
}

#[test]
fn ranges_are_kept_for_a_model_its_width_and_its_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 120);
    let none = run(at, "embed x -m $BERT --output int8");
    assert!(none.code == Some(2) && none.err.contains("embral calibrate SAMPLE"), "{}", none.err);
    let said = good(at, "calibrate in.txt -m $BERT --prompt-text query:");
    assert!(said.contains("ranges of 32 components from 120 texts"), "{said}");
    let other = run(at, "embed x -m $BERT --output int8");
    assert!(other.code == Some(2) && other.err.contains("none is kept"), "{}", other.err);
    let alone = good(at, "embed x -m $BERT --output int8 --prompt-text query:");
    let together = good(at, "embed x y z -m $BERT --output int8 --prompt-text query:");
    assert_eq!(alone.lines().next(), together.lines().next());
    good(at, "calibrate in.txt -m $BERT --dims 8 -o ranges.json");
    let cut = run(at, "embed x -m $BERT --output uint8 --dims 8");
    assert_eq!(cut.code, Some(2));
    good(at, "embed x -m $BERT --output uint8 --dims 8 --ranges ranges.json");
    let wrong = run(at, "embed x -m $STATIC --output uint8 --ranges ranges.json");
    assert!(wrong.code == Some(2) && wrong.err.contains("vectors with model"), "{}", wrong.err);
    let few = run(at, "calibrate - -m $BERT");
    assert!(few.code == Some(1) && few.err.contains("no text to take ranges from"), "{}", few.err);
}

#[test]
fn a_cut_that_a_model_was_not_trained_for_is_named() {
    let at = tempfile::tempdir().unwrap();
    let cut = run(at.path(), "embed x -m $BERT --dims 8");
    assert!(cut.code == Some(0) && cut.err.contains("was not trained to be cut"), "{}", cut.err);
    let small = run(at.path(), "embed x --dims 5");
    assert!(small.err.contains("was trained to be cut to [256"), "{}", small.err);
    for quiet in
        ["embed x --dims 64", "embed x --dims 256", "embed x -m $BERT --dims 32", "embed x -m $BERT --dims 8 -q"]
    {
        assert_eq!(run(at.path(), quiet).err, "", "{quiet}");
    }
}

#[test]
fn a_search_of_bits_finds_what_a_search_of_floats_finds() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let notes =
        ["a cat sat on the mat", "interest rates rose again", "the garden needs water", "a kitten rests on a rug"];
    fs::write(at.join("notes.txt"), notes.join("\n")).unwrap();
    good(at, "calibrate notes.txt -q");
    let lines = |found: &str| -> Vec<String> {
        found.lines().map(|l| l.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    let floats = good(at, "search notes.txt kitten -k 2");
    for form in ["f16", "int8", "uint8", "binary", "ubinary"] {
        let found = good(at, &format!("search notes.txt kitten -k 2 --quantize {form}"));
        assert_eq!(lines(&found)[0], lines(&floats)[0], "{form}: {found}");
        assert_eq!(found.lines().count(), 2);
        assert_eq!(good(at, &format!("search notes.txt kitten -k 9 --quantize {form} --rescore 0")).lines().count(), 4);
    }
    let refused = run(at, "search notes.txt kitten --rescore 2");
    assert_eq!(refused.code, Some(2));
    let refused = run(at, "search notes.txt kitten --quantize binary --ranges x");
    assert!(refused.code == Some(2) && refused.err.contains("not binary"), "{}", refused.err);
}
