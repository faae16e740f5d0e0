//! Long documents: rows of chunks, one vector a document, and runs that are taken up in the middle.

use crate::process::{embeddings, good, run};
use serde_json::Value;
use std::{fs, path::Path};

fn book(words: usize) -> String {
    const WORDS: [&str; 8] = ["cat ", "dog. ", "the ", "mat ", "ran\n\n", "house, ", "# Red\n\n", "street. "];
    (0..words).map(|i| WORDS[(i * i + 5 * i) % 8]).collect()
}

fn rows(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(row: &Value, name: &str) -> usize {
    usize::try_from(row[name].as_u64().unwrap_or_else(|| panic!("{name} of {row}"))).unwrap()
}

fn write_documents(at: &Path, texts: &[String]) {
    let line = |(i, text)| serde_json::json!({"id": format!("d{i}"), "text": text}).to_string() + "\n";
    let lines: String = texts.iter().enumerate().map(line).collect();
    fs::write(at.join("docs.jsonl"), lines).unwrap();
}

#[test]
fn rows_of_chunks_say_where_they_lie_and_cover_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = book(900);
    fs::write(at.join("book.md"), &text).unwrap();
    for how in ["tokens", "sentences", "markdown"] {
        for late in ["", " --late"] {
            let line =
                format!("embed -i book.md -m $BERT --chunk {how} --chunk-size 20 --chunk-overlap 4 --with-text{late}");
            let found = rows(&good(at, &line));
            assert!(found.len() > 20, "{line}: {}", found.len());
            let mut end = 0;
            for (i, row) in found.iter().enumerate() {
                assert_eq!((number(row, "index"), number(row, "chunk")), (0, i));
                let bytes = number(row, "start")..number(row, "end");
                assert!(bytes.start <= end && bytes.end > end, "{line}: {bytes:?} behind {end}");
                end = bytes.end;
                assert_eq!(row["text"], text[bytes]);
            }
            assert_eq!(end, text.len());
            if late.is_empty() {
                let third = found[3]["text"].as_str().unwrap().trim();
                fs::write(at.join("third.txt"), third.replace('\n', " ")).unwrap();
                let alone = embeddings(&good(at, "embed -i third.txt -m $BERT"));
                assert_eq!(embeddings(&found[3].to_string()), alone);
            }
        }
    }
}

#[test]
fn many_documents_keep_their_ids_in_every_format_that_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_documents(at, &[book(120), String::new(), book(3), book(77)]);
    let line = "embed -i docs.jsonl --id-field id -m $BERT --chunk sentences --chunk-size 12";
    let found = rows(&good(at, line));
    let ids: Vec<&str> = found.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ["d0", "d1", "d2", "d3"].iter().all(|id| ids.contains(id)), "{ids:?}");
    assert!(found.iter().filter(|row| row["id"] == "d1").all(|row| number(row, "end") == 0));
    good(at, &format!("{line} -o out.csv -q"));
    let table = fs::read_to_string(at.join("out.csv")).unwrap();
    assert!(table.starts_with("id,chunk,start,end,e0,"));
    for (row, line) in found.iter().zip(table.lines().skip(1)) {
        let wanted = format!("{},{},{},{},", row["id"].as_str().unwrap(), row["chunk"], row["start"], row["end"]);
        assert!(line.starts_with(&wanted), "{line}");
    }
    good(at, &format!("{line} -o out.parquet -q"));
    let (places, _) = crate::formats::tables::places(&at.join("out.parquet"));
    let wanted: Vec<[usize; 3]> = found.iter().map(|row| ["chunk", "start", "end"].map(|n| number(row, n))).collect();
    assert_eq!(places, wanted);
    for format in ["npy", "raw"] {
        let refused = run(at, &format!("{line} --format {format}"));
        assert!(refused.code == Some(2) && refused.err.contains("not where a chunk lies"), "{}", refused.err);
    }
}

#[test]
fn aggregates_are_one_row_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_documents(at, &[book(120), book(3), String::new(), book(77)]);
    let mut seen: Vec<Vec<Vec<f32>>> = Vec::new();
    for how in ["mean", "max", "weighted", "attention"] {
        for late in ["", " --late"] {
            let line = format!("embed -i docs.jsonl -m $BERT --chunk tokens --chunk-size 12 --aggregate {how}{late}");
            let lines = good(at, &line);
            let found = embeddings(&lines);
            assert_eq!(found.len(), 4);
            assert!(rows(&lines)[0].get("chunk").is_none());
            good(at, &format!("{line} -o out.npy -q -f"));
            assert_eq!(crate::process::floats(&at.join("out.npy"), 128, 32), found);
            assert!(!seen.contains(&found), "{line} is like another");
            seen.push(found);
        }
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_inside_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_documents(at, &[book(400), book(30), book(300)]);
    for flags in ["", " --late", " --late --chunk-overlap 5"] {
        let line = format!("embed -i docs.jsonl -m $BERT --chunk tokens --chunk-size 10{flags}");
        good(at, &format!("{line} -o whole.jsonl -q -f"));
        let whole = fs::read_to_string(at.join("whole.jsonl")).unwrap();
        // What a run leaves that ends at its 17th row, in the middle of the first document.
        let mut input = fs::read_to_string(at.join("docs.jsonl")).unwrap();
        input.push_str("no json\n");
        fs::write(at.join("broken.jsonl"), input).unwrap();
        let broken = line.replace("docs.jsonl", "broken.jsonl");
        let failed = run(at, &format!("{broken} -o out.jsonl -q -f --checkpoint 0"));
        assert!(failed.code == Some(1) && failed.err.contains("rows are safe"), "{}", failed.err);
        let part = fs::read_to_string(at.join("out.jsonl.partial")).unwrap();
        assert!(whole.starts_with(&part) && !part.is_empty());
        let other = run(at, &format!("{line} -o out.jsonl -q --resume --chunk-size 9").replace(" --chunk-size 10", ""));
        assert!(other.err.contains("--chunk-size was 10 and is 9"), "{}", other.err);
        good(at, &format!("{line} -o out.jsonl -q --resume"));
        assert_eq!(fs::read_to_string(at.join("out.jsonl")).unwrap(), whole, "{flags}");
        fs::remove_file(at.join("out.jsonl")).unwrap();
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_could() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_documents(at, &[book(3), book(200), book(3)]);
    for (line, code, says) in [
        ("embed x --chunk words", 2, "expected tokens, sentences, markdown or document"),
        ("embed x --chunk-size 8", 2, "--chunk"),
        ("embed x --late", 2, "--chunk"),
        ("embed x -m $BERT --chunk tokens --chunk-size 40", 2, "give a size of 1 to 30"),
        ("embed x -m $BERT --chunk tokens --chunk-size 8 --chunk-overlap 8", 2, "below the chunk size, found 8 of 8"),
        ("embed x --chunk tokens --late", 2, "needs a transformer"),
        ("embed x -m $BERT --chunk document", 2, "only of late chunking"),
        ("embed x -m $BERT --chunk tokens --aggregate median", 2, "expected mean, max, weighted or attention"),
        ("embed x -m $BERT --chunk tokens --late --profile", 2, "not of --late"),
        ("embed -i docs.jsonl -m $BERT --chunk tokens --late --truncate error", 1, "the text in line 2"),
        ("embed -i docs.jsonl -m $BERT --truncate error", 1, "the text in line 2"),
    ] {
        let ran = run(at, line);
        assert!(ran.code == Some(code) && ran.err.contains(says), "{line}: {:?} {}", ran.code, ran.err);
    }
    // Chunks of their own always fit, and one late chunk is one row a document.
    good(at, "embed -i docs.jsonl -m $BERT --chunk tokens --truncate error");
    assert_eq!(embeddings(&good(at, "embed -i docs.jsonl -m $BERT --chunk document --late")).len(), 3);
}
