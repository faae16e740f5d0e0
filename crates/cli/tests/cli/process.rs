//! Running the binary on a tiny model.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// What a run left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A tiny model in a folder: BERT with two blocks, or a static table.
pub(crate) fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden").join(name)
}

/// The binary, with nothing of the user's environment that would change what it does, in `folder`.
pub(crate) fn embral(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embral"));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in [
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "HF_ENDPOINT",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "EMBRAL_THREADS",
        "EMBRAL_VECTOR_CACHE",
        "EMBRAL_API_KEY",
    ] {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", folder.join("hf"))
        .env("EMBRAL_HOME", folder.join("home"))
        .env("EMBRAL_CACHE", folder.join("cache"))
        .env("EMBRAL_THREADS", "2");
    command
}

/// Runs a command line in `folder` to its end. Words are apart by single spaces; a word `$BERT` or `$STATIC` is a tiny model, and so
/// is `$` with the name of any other.
pub(crate) fn run(folder: &Path, line: &str) -> Ran {
    finish(&mut command(folder, line))
}

/// The command of a line as [`run`] takes it.
pub(crate) fn command(folder: &Path, line: &str) -> Command {
    let mut command = embral(folder);
    for word in line.split(' ').filter(|w| !w.is_empty()) {
        match word.strip_prefix('$') {
            Some("BERT") => command.arg(model("tiny_bert")),
            Some("STATIC") => command.arg(model("static_f32")),
            Some(name) => command.arg(model(name)),
            None => command.arg(word),
        };
    }
    command
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    Ran {
        code: status.code(),
        out: String::from_utf8(stdout).expect("output is text"),
        err: String::from_utf8(stderr).expect("messages are text"),
    }
}

/// Runs a command line that must succeed; what it printed.
pub(crate) fn good(folder: &Path, line: &str) -> String {
    let ran = run(folder, line);
    assert_eq!(ran.code, Some(0), "embral {line}: {}", ran.err);
    ran.out
}

/// A file of `lines` texts of different lengths.
pub(crate) fn write_texts(path: &Path, lines: usize) {
    const WORDS: [&str; 8] = ["cat", "dog", "mat", "house", "red", "ran", "street", "sat"];
    let mut text = String::new();
    for line in 0..lines {
        write!(text, "{line}").unwrap();
        for word in 0..line % 7 {
            write!(text, " {}", WORDS[(line * 31 + word * 7) % WORDS.len()]).unwrap();
        }
        text.push('\n');
    }
    std::fs::write(path, text).unwrap();
}

/// The embeddings of JSON lines.
pub(crate) fn embeddings(lines: &str) -> Vec<Vec<f32>> {
    let row = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let numbers = value["embedding"].as_array().expect("a row has its vector");
        numbers.iter().map(|x| x.as_f64().expect("a component is a number") as f32).collect()
    };
    lines.lines().map(row).collect()
}

/// The little-endian floats of a file from byte `from` on, in rows of `width`.
pub(crate) fn floats(path: &Path, from: usize, width: usize) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).expect("the file is there");
    let numbers: Vec<f32> = bytes[from..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    numbers.chunks(width).map(<[f32]>::to_vec).collect()
}
