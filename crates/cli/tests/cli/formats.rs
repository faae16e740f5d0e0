//! Every format in and out.

use crate::process::{embeddings, floats, good, run, write_texts};
use std::fs;

#[test]
fn every_output_format_holds_the_same_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 300);
    let expected = embeddings(&good(at, "embed -i in.txt -m $BERT"));
    assert_eq!((expected.len(), expected[0].len()), (300, 32));
    for format in ["jsonl", "csv", "npy", "raw"] {
        good(at, &format!("embed -i in.txt -m $BERT -o out.{format} -q"));
    }
    assert_eq!(embeddings(&fs::read_to_string(at.join("out.jsonl")).unwrap()), expected);
    assert_eq!(floats(&at.join("out.raw"), 0, 32), expected);
    assert_eq!(floats(&at.join("out.npy"), 128, 32), expected);
    let table = fs::read_to_string(at.join("out.csv")).unwrap();
    let mut lines = table.lines();
    assert!(lines.next().unwrap().starts_with("index,e0,e1,"));
    for (row, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[0], row.to_string());
        let vector: Vec<f32> = cells[1..].iter().map(|c| c.parse().unwrap()).collect();
        assert_eq!(vector, expected[row]);
    }
    // The same bytes go through a pipe.
    for format in ["jsonl", "csv"] {
        let piped = good(at, &format!("embed -i in.txt -m $BERT --format {format}"));
        assert_eq!(piped, fs::read_to_string(at.join(format!("out.{format}"))).unwrap());
    }
    let piped = crate::process::command(at, "embed -i in.txt -m $BERT --format npy").output().unwrap();
    assert_eq!(piped.stdout, fs::read(at.join("out.npy")).unwrap());
}

#[test]
fn every_input_format_gives_the_same_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let texts = ["a cat sat", "the dog, \"red\"", "", "猫 sat"];
    let (mut text, mut json, mut csv, mut tsv) =
        (String::new(), String::new(), "body\n".to_owned(), "body\tn\n".to_owned());
    for t in texts {
        text.push_str(&format!("{t}\n"));
        json.push_str(&format!("{}\n", serde_json::json!({ "body": t })));
        csv.push_str(&format!("\"{}\"\n", t.replace('"', "\"\"")));
        tsv.push_str(&format!("\"{}\"\t1\n", t.replace('"', "\"\"")));
    }
    for (name, content) in [("a.txt", &text), ("a.jsonl", &json), ("a.csv", &csv), ("a.tsv", &tsv)] {
        fs::write(at.join(name), content).unwrap();
    }
    let expected = good(at, "embed -i a.txt -m $BERT");
    assert_eq!(embeddings(&expected).len(), 4);
    for name in ["a.jsonl", "a.csv", "a.tsv"] {
        assert_eq!(good(at, &format!("embed -i {name} --field body -m $BERT")), expected, "{name}");
    }
    fs::copy(at.join("a.jsonl"), at.join("b.data")).unwrap();
    assert_eq!(good(at, "embed -i b.data --input-format jsonl --field body -m $BERT"), expected);
}

#[test]
fn ids_and_texts_stay_beside_their_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.jsonl"), "{\"k\":\"x\",\"text\":\"a cat\"}\n{\"k\":7,\"text\":\"a dog\"}\n").unwrap();
    let out = good(at, "embed -i a.jsonl --id-field k --with-text -m $STATIC");
    let rows: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((rows[0]["id"].as_str(), rows[1]["id"].as_i64()), (Some("x"), Some(7)));
    assert_eq!((rows[0]["text"].as_str(), rows[1]["text"].as_str()), (Some("a cat"), Some("a dog")));
    let out = good(at, "embed -i a.jsonl --id-field k --id-type string -m $STATIC");
    assert!(out.lines().nth(1).unwrap().starts_with("{\"id\":\"7\","));
    let ran = run(at, "embed -i a.jsonl --id-field k --id-type int -m $STATIC");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the id \"x\" is no integer"), "{}", ran.err);
}

#[test]
fn damaged_text_is_replaced_and_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.txt"), b"good\nb\xffd\n\xfe\n").unwrap();
    let ran = run(at, "embed -i a.txt -m $STATIC --format csv --with-text");
    assert_eq!(ran.code, Some(0));
    assert!(ran.err.contains("2 texts held bytes") && ran.err.lines().count() == 1, "{}", ran.err);
    assert!(ran.out.contains("b\u{fffd}d"));
    fs::write(at.join("a.jsonl"), "{\"text\":\"lone \\ud800 half\"}\n").unwrap();
    let ran = run(at, "embed -i a.jsonl -m $STATIC --with-text");
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("lone \u{fffd} half") && ran.err.contains("1 texts held"), "{}", ran.err);
}

#[test]
fn fewer_components_and_fewer_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 200);
    let whole = embeddings(&good(at, "embed -i in.txt -m $BERT"));
    let cut = embeddings(&good(at, "embed -i in.txt -m $BERT --dims 10"));
    for (whole, cut) in whole.iter().zip(&cut) {
        let length = whole[..10].iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(whole[..10].iter().zip(cut).all(|(a, b)| (a / length - b).abs() < 1e-6));
    }
    good(at, "embed -i in.txt -m $BERT -o bits.npy --output ubinary -q");
    let bits = fs::read(at.join("bits.npy")).unwrap();
    assert!(bits[10..].starts_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (200, 4), }"));
    let expected: Vec<u8> = whole
        .iter()
        .flat_map(|row| row.chunks(8).map(|eight| eight.iter().fold(0, |byte, x| byte << 1 | u8::from(*x > 0.0))))
        .collect();
    assert_eq!(bits[128..], expected);

    let refused = run(at, "embed -i in.txt -m $BERT --output int8");
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("embral calibrate"), "{}", refused.err);
    assert_eq!(good(at, "embed -i in.txt -m $BERT --save-ranges ranges.json"), "");
    let together = good(at, "embed -i in.txt -m $BERT --output int8 --ranges ranges.json");
    let alone = good(at, "embed -m $BERT --output int8 --ranges ranges.json 0");
    assert_eq!(together.lines().next(), alone.lines().next());
    let ranges: serde_json::Value = serde_json::from_slice(&fs::read(at.join("ranges.json")).unwrap()).unwrap();
    let (min, max) = (ranges["min"][3].as_f64().unwrap() as f32, ranges["max"][3].as_f64().unwrap() as f32);
    for (row, bytes) in whole.iter().zip(embeddings(&together)) {
        let expected = ((row[3] - min) / ((max - min) / 255.0)).floor().clamp(0.0, 255.0) - 128.0;
        assert_eq!(bytes[3], expected);
    }
    let ran = run(at, "embed -m $BERT --dims 8 --output int8 --ranges ranges.json x");
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("dims 32, and these have 8"), "{}", ran.err);
}

pub(crate) mod tables {
    use super::*;
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::{Field, Row},
    };
    use std::path::Path;

    fn read(path: &Path) -> (Vec<Row>, usize) {
        let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
        let groups = reader.num_row_groups();
        (reader.get_row_iter(None).unwrap().collect::<Result<_, _>>().unwrap(), groups)
    }

    /// The numbers of all vectors of a file without texts, row after row.
    pub(crate) fn numbers(path: &Path) -> Vec<f32> {
        let number = |x: &Field| match x {
            Field::Float(x) => *x,
            Field::Float16(x) => x.to_f32(),
            Field::Byte(x) => f32::from(*x),
            Field::UByte(x) => f32::from(*x),
            other => panic!("{other} is no number of a vector"),
        };
        let row = |row: &Row| match row.get_column_iter().nth(1).unwrap().1 {
            Field::ListInternal(list) => list.elements().iter().map(number).collect::<Vec<_>>(),
            other => panic!("{other} is no list"),
        };
        read(path).0.iter().flat_map(row).collect()
    }

    /// Chunk, start and end of all rows.
    pub(crate) fn places(path: &Path) -> (Vec<[usize; 3]>, usize) {
        let (rows, groups) = read(path);
        let place = |row: &Row| {
            ["chunk", "start", "end"].map(|wanted| match row.get_column_iter().find(|(name, _)| *name == wanted) {
                Some((_, Field::Long(n))) => usize::try_from(*n).unwrap(),
                other => panic!("{wanted} is {other:?}"),
            })
        };
        (rows.iter().map(place).collect(), groups)
    }

    fn vector(row: &Row, column: usize) -> Vec<f32> {
        let Field::ListInternal(list) = row.get_column_iter().nth(column).unwrap().1 else { panic!("a list") };
        list.elements().iter().map(|x| if let Field::Float(x) = x { *x } else { panic!("a float") }).collect()
    }

    #[test]
    fn parquet_out_is_what_json_lines_are() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write_texts(&at.join("in.txt"), 100);
        let expected = embeddings(&good(at, "embed -i in.txt -m $BERT"));
        good(at, "embed -i in.txt -m $BERT -o out.parquet --with-text --row-group 30 -q");
        let (rows, groups) = read(&at.join("out.parquet"));
        assert_eq!((rows.len(), groups), (100, 4));
        for (i, row) in rows.iter().enumerate() {
            let columns: Vec<(&String, &Field)> = row.get_column_iter().collect();
            assert_eq!((columns[0].0.as_str(), columns[0].1), ("index", &Field::Long(i as i64)));
            assert_eq!(vector(row, 2), expected[i]);
        }
        let piped = crate::process::command(at, "embed -i in.txt -m $BERT --format parquet --with-text --row-group 30");
        let piped = { piped }.output().unwrap();
        assert_eq!(piped.stdout, fs::read(at.join("out.parquet")).unwrap());
        // What embral wrote, embral reads.
        let again = good(at, "embed -i out.parquet --id-field index -m $BERT");
        assert_eq!(embeddings(&again), expected);
        assert!(again.starts_with("{\"id\":0,"));
        good(at, "embed -i out.parquet --id-field text -m $BERT -o ids.parquet -q");
        assert_eq!(
            read(&at.join("ids.parquet")).0[99].get_column_iter().next().unwrap().1,
            &Field::Str("99 ran".into())
        );
    }

    #[test]
    fn an_empty_input_is_an_empty_table() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("in.txt"), "").unwrap();
        good(at, "embed -i in.txt -m $STATIC -o out.parquet --with-text -q");
        assert_eq!(read(&at.join("out.parquet")).0.len(), 0);
        assert_eq!(good(at, "embed -i out.parquet -m $STATIC"), "");
    }
}
