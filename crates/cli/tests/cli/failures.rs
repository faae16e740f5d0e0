//! What goes wrong, how it is said, and the exit code.

use crate::process::{command, embral, model, run, write_texts};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::Stdio,
};

/// Command lines that end badly: the code and a part of the line.
const FAILURES: [(&str, i32, &str); 29] = [
    ("", 2, "no command: try embral --help"),
    ("frobnicate", 2, "unrecognized subcommand 'frobnicate'"),
    ("embed --no-such-flag x", 2, "unexpected argument '--no-such-flag'"),
    ("embed --dims 0 x", 2, "invalid value '0' for '--dims"),
    ("embed --pooling median x", 2, "expected mean, cls, max or last"),
    ("embed --precision f8 x", 2, "unknown precision"),
    ("embed --truncate middle x", 2, "expected right, left or error"),
    ("embed --checkpoint soon x", 2, "is no number of seconds"),
    ("embed x -i in.txt", 2, "cannot be used with"),
    ("embed x --field body", 2, "give one with -i"),
    ("embed -i in.txt --id-field id", 2, "have no fields"),
    ("embed -i in.txt --id-type int", 2, "--id-field"),
    ("embed x -o out.xyz", 2, "or pass --format"),
    ("embed x -o .", 2, "is a folder"),
    ("embed x --resume", 2, "name it with -o"),
    ("embed x --resume --overwrite -o out.npy", 2, "cannot be used with"),
    ("embed x --with-text -o out.npy", 2, "holds numbers alone"),
    ("embed x --ranges in.txt", 2, "belongs to --output int8 or uint8"),
    ("embed x -m $STATIC --output uint8 --ranges in.txt", 1, "no file of ranges"),
    ("embed -i absent.txt", 1, "cannot read absent.txt"),
    ("embed x -o absent/out.npy", 1, "does not exist: create it first"),
    ("embed x -m absent-model --offline", 1, "absent-model"),
    ("embed x -m $STATIC --dims 4000", 1, "4000"),
    ("embed x -m $BERT --dims 33", 1, "have 32 (give 1 to 32)"),
    ("embed x -m $BERT --prompt nope", 1, "it has: none (give the prompt as text: --prompt-text"),
    ("embed x -m $BERT --max-tokens 999", 1, "give 48 or fewer"),
    ("embed x -m $BERT --part-precision 7.up=f32", 1, "expected a layer below 2"),
    ("embed x -m $BERT --part-precision up=f32", 2, "write LAYER.PART=PRECISION"),
    ("similarity one", 2, "2 values required"),
];

#[test]
fn every_failure_is_one_line_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 3);
    for (line, code, message) in FAILURES {
        let ran = run(at, line);
        assert_eq!(ran.code, Some(code), "embral {line}: {}", ran.err);
        assert!(ran.err.starts_with("embral: error: "), "embral {line}: {}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "embral {line}: {}", ran.err);
        assert!(ran.err.contains(message), "embral {line}: {}", ran.err);
        assert_eq!(ran.out, "", "embral {line}");
    }
    assert_eq!(fs::read_dir(at).unwrap().count(), 1, "a failed run leaves nothing");
}

/// A page of 280 bytes claims a dictionary of four billion texts, for which the `parquet` crate would take 3.7 GB.
#[test]
#[cfg(feature = "parquet")]
fn a_dictionary_is_no_larger_than_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/parquet/found-dictionary-of-billions");
    fs::copy(seed, folder.path().join("in.parquet")).unwrap();
    let ran = run(folder.path(), "embed -i in.parquet -m $STATIC");
    assert!(ran.err.contains("a dictionary of") && ran.err.contains("bytes or more, found"), "{}", ran.err);
    assert_eq!(ran.code, Some(1));
}

/// An element of the schema claims billions of columns, for which the `parquet` crate would take 15 GB.
#[test]
#[cfg(feature = "parquet")]
fn a_schema_is_no_larger_than_its_elements() {
    let folder = tempfile::tempdir().unwrap();
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/parquet/found-schema-of-billions");
    fs::copy(seed, folder.path().join("in.parquet")).unwrap();
    let ran = run(folder.path(), "embed -i in.parquet -m $STATIC");
    assert!(ran.err.contains("in.parquet: no Parquet file that can be read: its metadata is damaged"), "{}", ran.err);
    assert_eq!(ran.code, Some(1));
}

/// The `parquet` and `tokenizers` crates panic on these files.
#[test]
fn a_panic_over_a_damaged_file_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/parquet");
    for seed in ["found-cut-bits", "found-lengths-overflow", "found-metadata-disagrees"] {
        fs::copy(seeds.join(seed), at.join("in.parquet")).unwrap();
        let ran = run(at, "embed -i in.parquet -m $STATIC");
        assert_eq!(ran.err, "embral: error: in.parquet is damaged: write the Parquet file again\n", "{seed}");
        assert_eq!(ran.code, Some(1));
    }
    fs::create_dir(at.join("model")).unwrap();
    for file in ["config.json", "model.safetensors", "modules.json"] {
        fs::copy(model("static_f32").join(file), at.join("model").join(file)).unwrap();
    }
    let tokenizer = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "decoder": null,
        "post_processor": {"type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#;
    fs::write(at.join("model/tokenizer.json"), tokenizer).unwrap();
    let ran = run(at, "embed x -m model");
    assert!(ran.err.contains("the parts of the tokenizer do not fit together"), "{}", ran.err);
    assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{}", ran.err);
}

#[test]
fn an_existing_output_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("out.jsonl"), "precious").unwrap();
    let ran = run(at, "embed x -m $STATIC -o out.jsonl");
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--overwrite"), "{}", ran.err);
    assert_eq!(fs::read_to_string(at.join("out.jsonl")).unwrap(), "precious");
    assert_eq!(run(at, "embed x -m $STATIC -o out.jsonl -f").code, Some(0));
    assert!(fs::read_to_string(at.join("out.jsonl")).unwrap().starts_with("{\"index\":0,"));
}

#[test]
fn a_text_that_is_too_long_is_named_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("in.txt"), format!("short\n{}\n", "cat ".repeat(60))).unwrap();
    assert_eq!(run(at, "embed -i in.txt -m $BERT").code, Some(0));
    // Neither what warms a model up nor what tells it from others is a text of the user's.
    fs::write(at.join("x.txt"), "cat\n").unwrap();
    for out in ["", " -o x.jsonl"] {
        let ran = run(at, &format!("embed -i x.txt -m $BERT --truncate error --max-tokens 3{out}"));
        assert_eq!((ran.code, ran.err.contains("error")), (Some(0), false), "{}", ran.err);
    }
    let ran = run(at, "embed -i in.txt -m $BERT --truncate error");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the text in line 2:") && ran.err.contains("--truncate right"), "{}", ran.err);
}

#[test]
fn bad_rows_are_left_out_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("in.jsonl"), "{\"text\":\"a\"}\nnot json\n{\"text\":\"b\"}\n").unwrap();
    let ran = run(at, "embed -i in.jsonl -m $STATIC");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("in.jsonl:2:") && ran.err.contains("--on-error skip"), "{}", ran.err);
    let ran = run(at, "embed -i in.jsonl -m $STATIC --on-error skip");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 2));
    assert!(ran.err.contains("1 rows could not be read") && ran.err.contains("in.jsonl:2:"), "{}", ran.err);
    let quiet = run(at, "embed -i in.jsonl -m $STATIC --on-error skip --quiet");
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 30_000);
    let mut child = command(at, "embed -i in.txt -m $STATIC").spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"index\":0,"));
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert_eq!((child.wait().unwrap().code(), message.as_str()), (Some(0), ""));
}

#[test]
fn help_and_version_go_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["--help", "embed --help", "models pull --help", "--version", "bench texts -h"] {
        let ran = run(folder.path(), line);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{line}");
        assert!(ran.out.contains("embral") || ran.out.contains("Usage"), "{line}");
    }
}

#[test]
fn texts_come_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), 5);
    let piped = || Stdio::from(fs::File::open(at.join("in.txt")).unwrap());
    let direct = run(at, "embed -i in.txt -m $STATIC").out;
    for line in ["embed -m $STATIC", "embed -i - -m $STATIC"] {
        let output = command(at, line).stdin(piped()).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), direct, "{line}");
    }
    let nothing = embral(at).args(["embed", "-m"]).arg(crate::process::model("static_f32")).output().unwrap();
    assert_eq!((nothing.status.code(), nothing.stdout.len()), (Some(0), 0));
}
