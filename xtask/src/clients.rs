//! The clients of other embedding servers, unmodified, against `embral serve`; schemathesis by the OpenAPI file that it publishes; and
//! the page in headless Chromium. Each installs what it needs from the package registries; what cannot be installed is skipped with
//! a printed line, and is a failure where `CI` is set.

use std::{
    env, fs,
    io::{BufRead, BufReader, copy, sink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The texts whose vectors are compared.
const TEXTS: [&str; 5] = [
    "a cat sat on the mat",
    "ein Hund läuft über die Straße",
    "How do plants make sugar from light? They take up carbon dioxide and water.",
    "猫が座っている",
    "interest rates rose",
];
const KEY: &str = "a-key-for-tests";

/// Runs the parts that are named, or all.
pub(crate) fn run(args: &[String]) -> Result<()> {
    const PARTS: [&str; 3] = ["clients", "schema", "page"];
    if let Some(unknown) = args.iter().find(|arg| !PARTS.contains(&arg.as_str())) {
        bail!("there is no part {unknown:?}: expected {}", PARTS.join(", "));
    }
    let wanted = |part: &str| args.is_empty() || args.iter().any(|arg| arg == part);
    workspace::run(workspace::cargo().args(["build", "--package", "embral-cli"]))?;
    let folder = workspace::target().join("clients");
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let models = Models::gather(&folder)?;
    let mut failed = Vec::new();
    if wanted("clients") {
        for key in [None, Some(KEY)] {
            let server = Serving::start(&models, key)?;
            let label = key.map_or("clients", |_| "clients with a key");
            let mut command = script(&folder, &server.base);
            command.args(["--model", "model", "--reranker", "reranker"]).arg("--expected").arg(&models.expected);
            if let Some(key) = key {
                command.args(["--api-key", key]);
            }
            note(&mut failed, label, workspace::run(&mut command));
        }
    }
    if wanted("schema") {
        let server = Serving::start(&models, None)?;
        note(&mut failed, "schema", workspace::run(script(&folder, &server.base).args(["--part", "schema"])));
    }
    if wanted("page") {
        let server = Serving::start(&models, None)?;
        note(&mut failed, "page", page(&folder, &server.base));
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn note(failed: &mut Vec<&'static str>, part: &'static str, outcome: Result<()>) {
    if let Err(error) = outcome {
        eprintln!("{part}: {error:#}");
        failed.push(part);
    }
}

fn required() -> bool {
    env::var_os("CI").is_some()
}

fn script(folder: &Path, base: &str) -> Command {
    let mut command = workspace::command("python3");
    command.arg("crates/server/tests/clients/run.py").arg("--cache").arg(folder).args(["--base", base]);
    if required() {
        command.arg("--require");
    }
    command
}

/// What is served, and what the library gives for it.
struct Models {
    model: PathBuf,
    reranker: PathBuf,
    expected: PathBuf,
}

impl Models {
    fn gather(folder: &Path) -> Result<Self> {
        let golden = workspace::root().join("crates/engine/tests/golden");
        let real = workspace::root().join("target/models/all-MiniLM-L6-v2");
        let model = if real.is_dir() { real } else { golden.join("tiny_bert") };
        println!("the model is {}", model.display());
        // The reranker is the part of a model folder that differs from a tiny BERT, whose tokenizer it has.
        let reranker = folder.join("reranker");
        fs::create_dir_all(&reranker)?;
        for (from, name) in [
            ("tiny_bert", "tokenizer.json"),
            ("tiny_bert", "vocab.txt"),
            ("tiny_reranker", "config.json"),
            ("tiny_reranker", "model.safetensors"),
            ("tiny_reranker", "tokenizer_config.json"),
        ] {
            fs::copy(golden.join(from).join(name), reranker.join(name)).with_context(|| format!("{from}/{name}"))?;
        }
        let vectors = |flags: &[&str]| -> Result<String> {
            let mut command = workspace::command(binary());
            command.args(["embed", "--quiet", "--format", "jsonl", "-m"]).arg(&model).args(flags).args(TEXTS);
            let lines = workspace::output(&mut command)?;
            let rows = lines.lines().map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).context("embral embed printed no JSON")?;
                Ok(value["embedding"].to_string())
            });
            Ok(format!("[{}]", rows.collect::<Result<Vec<String>>>()?.join(",")))
        };
        let expected = folder.join("expected.json");
        let texts = serde_json::to_string(&TEXTS)?;
        let (plain, raw) = (vectors(&[])?, vectors(&["--no-normalize"])?);
        fs::write(&expected, format!("{{\"texts\":{texts},\"vectors\":{plain},\"raw_vectors\":{raw}}}"))?;
        Ok(Self { model, reranker, expected })
    }
}

fn binary() -> PathBuf {
    workspace::target().join("debug/embral")
}

/// A server; killed when it is dropped.
struct Serving {
    child: Child,
    base: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn start(models: &Models, key: Option<&str>) -> Result<Self> {
        let mut command = workspace::command(binary());
        command.args(["serve", "--port", "0", "--log", "warn", "--cors-origins", "*", "-m"]);
        command.arg(format!("model={}", models.model.display()));
        command.arg("-m").arg(format!("reranker={}", models.reranker.display()));
        if let Some(key) = key {
            command.env("EMBRAL_SERVER_API_KEY", key);
        }
        let child = command.stderr(Stdio::piped()).spawn().context("could not start embral serve")?;
        let mut serving = Self { child, base: String::new() };
        let mut lines = BufReader::new(serving.child.stderr.take().context("it has no standard error")?);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                bail!("embral serve ended before it served");
            }
            if let Some((_, base)) = line.trim_end().split_once("serving on ") {
                serving.base = base.to_owned();
                // Somebody has to read on, or it would stop at a full pipe.
                thread::spawn(move || copy(&mut lines, &mut sink()));
                return Ok(serving);
            }
            eprint!("{line}");
        }
    }
}

/// The test of the page, with its packages installed beside a copy of it.
fn page(folder: &Path, base: &str) -> Result<()> {
    let from = workspace::root().join("crates/server/tests/page");
    let place = folder.join("page");
    fs::create_dir_all(&place)?;
    for entry in fs::read_dir(&from)?.flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), place.join(entry.file_name()))?;
    }
    let lacks = |what: &str| {
        if required() {
            bail!("{what} is not installed");
        }
        println!("SKIPPED page: {what} is not installed");
        Ok(())
    };
    for program in ["node", "npm", "chromium"] {
        if !workspace::has_program(program) {
            return lacks(program);
        }
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]).current_dir(&place);
    if let Err(error) = workspace::run(npm.stdin(Stdio::null())) {
        return lacks(&format!("playwright-core ({error:#})"));
    }
    let mut node = Command::new("node");
    workspace::run(node.args(["page.mjs", "--base", base]).current_dir(&place).stdin(Stdio::null()))
}
