use super::*;
use std::io::Write;

/// A file of `bytes` named `name` in a folder that goes away with the first value.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    File::create(&path).unwrap().write_all(bytes).unwrap();
    let options = Options {
        path: Some(path),
        format: None,
        field: None,
        id_field: None,
        bad: Bad::Fail("the hint"),
        skip_blank: false,
    };
    (folder, options)
}

fn records(options: &Options) -> (Vec<Record>, Input) {
    let mut input = Input::open(options).unwrap();
    let mut records = Vec::new();
    while let Some(record) = input.next().unwrap() {
        records.push(record);
    }
    (records, input)
}

fn texts(options: &Options) -> Vec<String> {
    records(options).0.into_iter().map(|r| r.text).collect()
}

fn failure(options: &Options) -> String {
    let read = || -> Result<()> {
        let mut input = Input::open(options)?;
        while input.next()?.is_some() {}
        Ok(())
    };
    format!("{:#}", read().unwrap_err())
}

#[test]
fn every_line_of_a_text_file_is_a_text() {
    let (_folder, mut options) = file("a.txt", b"\xef\xbb\xbfone\r\n\n  \ntwo\xff\xfe");
    let (found, input) = records(&options);
    let expected = [("one", 0, 1), ("", 1, 2), ("  ", 2, 3), ("two\u{fffd}\u{fffd}", 3, 4)];
    let expected = expected.map(|(text, row, line)| Record { id: Id::Row(row), text: text.into(), line, place: None });
    assert_eq!(found, expected);
    assert_eq!((input.repaired, input.position().part()), (1, Some(1.0)));
    options.skip_blank = true;
    let ids: Vec<Id> = records(&options).0.into_iter().map(|r| r.id).collect();
    assert_eq!(ids, [Id::Row(0), Id::Row(1)]);
}

#[test]
fn an_empty_file_has_no_text() {
    for name in ["a.txt", "a.jsonl"] {
        assert!(texts(&file(name, b"").1.clone()).is_empty() || name.is_empty());
    }
    assert!(failure(&file("a.csv", b"").1).contains("a.csv"));
}

#[test]
fn json_lines_keep_ids_as_they_stand() {
    let (_folder, mut options) = file(
        "a.jsonl",
        br#"{"id":7,"text":"a","more":{"text":"no"}}
{"text":"b\u00e9","id":"x"}

{"id":2.50,"text":"first","text":"last"}
{"id":[1, 2],"text":""}
"#,
    );
    options.id_field = Some("id".into());
    let (found, input) = records(&options);
    let ids: Vec<Id> = found.iter().map(|r| r.id.clone()).collect();
    assert_eq!(ids, [Id::Int(7), Id::Text("x".into()), Id::Json("2.50".into()), Id::Json("[1, 2]".into())]);
    assert_eq!(found.iter().map(|r| r.text.as_str()).collect::<Vec<_>>(), ["a", "bé", "last", ""]);
    assert_eq!(found.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 2, 4, 5]);
    assert_eq!(input.repaired, 0);
}

#[test]
fn half_a_surrogate_pair_becomes_the_replacement_character() {
    let cases: [(&str, &str); 8] = [
        (r"\ud800", "\u{fffd}"),
        (r"a\udc00b", "a\u{fffd}b"),
        (r"\ud800\ud800\udc00", "\u{fffd}\u{10000}"),
        (r"\ud83d\ude00", "😀"),
        (r"\\ud800", r"\ud800"),
        (r"\\\ud800\\", "\\\u{fffd}\\"),
        (r"\uD800A", "\u{fffd}A"),
        (r"\ud800\u0041", "\u{fffd}A"),
    ];
    for (escaped, text) in cases {
        let (_folder, options) = file("a.jsonl", format!("{{\"text\":\"{escaped}\"}}\n").as_bytes());
        let (found, input) = records(&options);
        assert_eq!(found[0].text, text, "{escaped}");
        assert_eq!(input.repaired, u64::from(text.contains('\u{fffd}')), "{escaped}");
    }
}

#[test]
fn a_bad_row_is_named_or_left_out() {
    let lines = [
        (r#"{"text":"a""#, "a.jsonl:2: no JSON object at column"),
        (r#"["text"]"#, "expected a JSON object"),
        (r#"{"body":"x","title":"y"}"#, "no field \"text\"; the fields are: body, title: name one with --field"),
        (r#"{"text":3}"#, "field \"text\" is a number, not a string"),
        (r#"{"text":null}"#, "field \"text\" is null"),
        (r#"{"text":"a"} x"#, "a.jsonl:2: no JSON object"),
        (r#"{"text":"\u12"}"#, "a.jsonl:2:"),
    ];
    for (line, message) in lines {
        let (_folder, mut options) =
            file("a.jsonl", format!("{{\"text\":\"good\"}}\n{line}\n{{\"text\":\"end\"}}").as_bytes());
        let found = failure(&options);
        assert!(found.contains(message) && found.ends_with("(the hint)"), "{line}: {found}");
        options.bad = Bad::Skip;
        let (found, input) = records(&options);
        assert_eq!(found.len(), 2, "{line}");
        assert_eq!((input.skipped, found[1].id.clone()), (1, Id::Row(1)));
        assert!(input.first_fault.unwrap().contains(":2:"));
    }
}

#[test]
fn tables_are_read_by_their_header() {
    let (_folder, mut options) = file("a.csv", b"id,text,x\n1,\"a, \"\"b\"\"\nc\",2\n2,,3\nbad\n3,d,4\n");
    options.id_field = Some("id".into());
    assert!(failure(&options).contains("1 columns where the header has 3"));
    options.bad = Bad::Skip;
    let (found, input) = records(&options);
    assert_eq!(found.iter().map(|r| r.text.as_str()).collect::<Vec<_>>(), ["a, \"b\"\nc", "", "d"]);
    assert_eq!((found[2].id.clone(), input.skipped), (Id::Text("3".into()), 1));
    options.field = Some("body".into());
    assert!(failure(&options).contains("no column \"body\"; the columns are: id, text, x"));
    let (_folder, options) = file("a.tsv", b"text\tn\na,b\t1\n");
    assert_eq!(texts(&options), ["a,b"]);
}

#[test]
fn what_is_no_input_is_said() {
    let (folder, mut options) = file("a.txt", b"x");
    options.field = Some("body".into());
    assert!(failure(&options).contains("have no fields"));
    options.field = None;
    options.path = Some(folder.path().join("absent.txt"));
    assert!(failure(&options).contains("cannot read"));
    options.path = Some(folder.path().to_owned());
    assert!(failure(&options).contains("is a folder"));
    options.path = None;
    options.format = Some(Format::Parquet);
    assert!(failure(&options).contains("arquet"));
}

#[test]
fn a_line_without_an_end_does_not_fill_the_memory() {
    let (_folder, options) = file("a.txt", &vec![b'x'; (64 << 20) + 1]);
    assert!(failure(&options).contains("a.txt:1: the line is longer than 64 MiB"));
}

#[test]
#[cfg(feature = "parquet")]
fn a_file_that_is_no_parquet_is_said() {
    let (_folder, options) = file("a.parquet", b"PAR1 this is none PAR1");
    assert!(failure(&options).contains("no Parquet file"));
}
