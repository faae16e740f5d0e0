//! Keeps a comparison with other engines: runs the given script against the release binary and writes its table to
//! `benchmarks/record/DATE-CPU.md`, headed by what is needed to read it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Runs the script and writes the record.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    if !options.script.is_file() {
        bail!("there is no comparison script at {}", options.script.display());
    }
    workspace::run(workspace::cargo().args(["build", "--release", "--package", "embral-cli"]))?;
    let binary = workspace::target().join("release/embral");
    let table = workspace::target().join("bench-record.md");
    if table.exists() {
        fs::remove_file(&table).with_context(|| format!("could not remove {}", table.display()))?;
    }
    let mut command = workspace::command(&options.python);
    command.arg(&options.script).arg("--models").arg(&options.models).arg("--embral").arg(&binary);
    workspace::run(command.arg("--out").arg(&table).args(&options.rest))?;
    let table = fs::read_to_string(&table).context("the comparison script wrote no table")?;

    let cpu = cpu()?;
    let date = workspace::output(workspace::command("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned();
    let record = workspace::root().join("benchmarks/record").join(format!("{date}-{}.md", slug(&cpu)));
    let mut text = format!("# {date}, {cpu}\n\n");
    writeln!(text, "- CPU: {cpu}, {} threads available", std::thread::available_parallelism()?)?;
    writeln!(text, "- commit: {}", commit()?)?;
    writeln!(text, "- command: `{}`", options.shown())?;
    write!(text, "- compiler: {}\n\n", workspace::output(workspace::command("rustc").arg("--version"))?.trim())?;
    text.push_str(&table);
    fs::create_dir_all(record.parent().context("a record has a folder")?)?;
    fs::write(&record, text).with_context(|| format!("could not write {}", record.display()))?;
    println!("bench-record: {}", record.display());
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Options {
    script: PathBuf,
    models: PathBuf,
    python: PathBuf,
    rest: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let (mut script, mut models, mut python, mut rest) = (None, None, PathBuf::from("python3"), Vec::new());
        let mut args = args.iter();
        while let Some(argument) = args.next() {
            let mut value = || args.next().map(PathBuf::from).with_context(|| format!("{argument} needs a path"));
            match argument.as_str() {
                "--script" => script = Some(value()?),
                "--models" => models = Some(value()?),
                "--python" => python = value()?,
                "--" => {
                    rest.extend(args.by_ref().cloned());
                }
                other => bail!("`cargo xtask bench-record` has no option {other:?}"),
            }
        }
        let script = script.context("--script FILE is needed")?;
        Ok(Self { script, models: models.context("--models DIR is needed")?, python, rest })
    }

    /// The command without the folders of the machine that ran it.
    fn shown(&self) -> String {
        let script = self.script.file_name().unwrap_or_default().to_string_lossy();
        let rest: String = self.rest.iter().map(|argument| format!(" {argument}")).collect();
        format!("{script} --models MODELS --embral target/release/embral{rest}")
    }
}

fn cpu() -> Result<String> {
    let text = fs::read_to_string(Path::new("/proc/cpuinfo")).context("could not read /proc/cpuinfo")?;
    Ok(cpu_name(&text).unwrap_or(std::env::consts::ARCH).to_owned())
}

fn cpu_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

fn commit() -> Result<String> {
    let hash = workspace::output(workspace::command("git").args(["rev-parse", "--short=12", "HEAD"]))?;
    let changes = workspace::output(workspace::command("git").args(["status", "--porcelain", "--untracked-files=no"]))?;
    Ok(format!("{}{}", hash.trim(), if changes.is_empty() { "" } else { " with uncommitted changes" }))
}

/// Letters and digits in lower case, everything else one dash.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_becomes_a_file_name() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 9R14 (96-Core)\n";
        assert_eq!(cpu_name(cpuinfo).map(slug).as_deref(), Some("amd-epyc-9r14-96-core"));
        assert_eq!(cpu_name("processor\t: 0\n"), None);
    }

    #[test]
    fn the_command_is_shown_without_folders() {
        let args = ["--script", "/a/compare.py", "--models", "/b", "--", "--rounds", "5"].map(str::to_owned);
        let options = Options::parse(&args).expect("valid");
        assert_eq!(options.shown(), "compare.py --models MODELS --embral target/release/embral --rounds 5");
        assert!(Options::parse(&args[..2]).is_err());
        assert!(Options::parse(&["--script".to_owned()]).is_err());
    }
}
