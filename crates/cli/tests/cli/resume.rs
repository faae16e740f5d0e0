//! Runs that are killed, and what becomes of their rows.

use crate::process::{command, finish, good, run, write_texts};
use std::{
    fs,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

/// Texts of a run that is killed.
const TEXTS: usize = 12_000;

/// Random enough to hit every moment of a run, and the same in every test run (an LCG of Knuth).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Kills the run of `line` again and again, at random times, until one is quick enough to reach the end.
fn killed_until_done(at: &Path, line: &str, seed: u64) -> usize {
    let mut chance = Chance(seed);
    let mut kills = 0;
    loop {
        let mut child = command(at, &format!("{line} --resume -q")).stderr(Stdio::inherit()).spawn().unwrap();
        // Later kills come later, so that a slow machine gets to the end as well.
        let until = Instant::now() + Duration::from_millis(20 + chance.below(120 + 40 * kills as u64));
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0));
                return kills;
            }
            if Instant::now() >= until {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                break;
            }
            sleep(Duration::from_millis(2));
        }
    }
}

fn survives(format: &str, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), TEXTS);
    let line = "embed -i in.txt -m $BERT --threads 1 --row-group 500 --checkpoint 0.01";
    good(at, &format!("{line} -q -o whole.{format}"));
    let kills = killed_until_done(at, &format!("{line} -o out.{format}"), seed);
    println!("{format}: {kills} kills");
    assert!(kills > 0, "the run ended before it could be killed");
    let (whole, out) = (fs::read(at.join(format!("whole.{format}"))), fs::read(at.join(format!("out.{format}"))));
    assert!(whole.unwrap() == out.unwrap(), "{format}: a killed and resumed run differs from a whole one");
    assert_eq!(fs::read_dir(at).unwrap().count(), 3, "nothing but the input and the outputs stays");
}

#[test]
fn json_lines_survive_kills() {
    survives("jsonl", 1);
}

#[test]
fn csv_survives_kills() {
    survives("csv", 2);
}

#[test]
fn numpy_survives_kills() {
    survives("npy", 3);
}

#[test]
fn raw_survives_kills() {
    survives("raw", 4);
}

#[test]
fn parquet_survives_kills() {
    survives("parquet", 5);
}

/// Starts a run and kills it when rows of it are safe.
fn unfinished(at: &Path, line: &str) {
    let mut child = command(at, line).spawn().unwrap();
    let journal = at.join("out.raw.partial.json");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        let rows = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|j| j["rows"].as_u64());
        if rows.is_some_and(|rows| rows > 0) {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        assert!(Instant::now() < deadline, "no row became safe");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_goes_on_only_with_what_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), TEXTS * 2);
    let line = "embed -i in.txt -m $BERT --threads 1 --checkpoint 0.01 -o out.raw";
    unfinished(at, line);

    let plain = run(at, line);
    assert_eq!(plain.code, Some(2));
    assert!(plain.err.contains("--resume") && plain.err.contains("--overwrite"), "{}", plain.err);
    let refusals = [
        (format!("{line} --resume --dims 8"), "--dims was 32 and is 8"),
        (format!("{line} --resume --prompt-text query:"), "--prompt was"),
    ];
    for (line, message) in &refusals {
        let ran = run(at, line);
        assert_eq!(ran.code, Some(1), "{line}");
        assert!(ran.err.contains(message) && ran.err.contains("--overwrite"), "{line}: {}", ran.err);
    }
    let other = at.join("other");
    copy_folder(&crate::process::model("tiny_bert"), &other);
    scramble(&other.join("model.safetensors"));
    let ran = run(at, &format!("{line} --resume").replace("$BERT", "other"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("other vectors"), "{}", ran.err);

    let texts = fs::read_to_string(at.join("in.txt")).unwrap();
    fs::write(at.join("in.txt"), texts.replacen('0', "zero", 1)).unwrap();
    let changed = run(at, &format!("{line} --resume"));
    assert_eq!(changed.code, Some(1));
    assert!(changed.err.contains("are not those of the run that began"), "{}", changed.err);
    fs::write(at.join("in.txt"), "1\n").unwrap();
    let shorter = run(at, &format!("{line} --resume"));
    assert!(shorter.err.contains("the input has 1 rows"), "{}", shorter.err);

    // An input that has grown is the same input: its new rows follow.
    fs::write(at.join("in.txt"), format!("{texts}one more\n")).unwrap();
    good(at, &format!("{line} --resume -q"));
    assert_eq!(fs::metadata(at.join("out.raw")).unwrap().len(), (TEXTS as u64 * 2 + 1) * 32 * 4);
    let again = run(at, &format!("{line} --resume"));
    assert_eq!(again.code, Some(0));
    assert!(again.err.contains("is complete"), "{}", again.err);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Changes the sign of every second number of the weights.
fn scramble(weights: &Path) {
    let mut bytes = fs::read(weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].chunks_exact_mut(8).for_each(|pair| pair[3] ^= 0x80);
    fs::write(weights, bytes).unwrap();
}

#[test]
fn standard_input_is_resumed_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), TEXTS);
    let line = "embed -i - -m $BERT --threads 1 --checkpoint 0.01 -o out.raw";
    let input = || Stdio::from(fs::File::open(at.join("in.txt")).unwrap());
    let mut child = command(at, line).stdin(input()).spawn().unwrap();
    sleep(Duration::from_millis(200));
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = finish(command(at, &format!("{line} --resume")).stdin(input()));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    good(at, "embed -i in.txt -m $BERT -o whole.raw -q");
    assert!(fs::read(at.join("out.raw")).unwrap() == fs::read(at.join("whole.raw")).unwrap());
}

#[test]
#[cfg(unix)]
fn an_interrupt_leaves_the_run_to_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_texts(&at.join("in.txt"), TEXTS * 4);
    let line = "embed -i in.txt -m $BERT --threads 1 --checkpoint 0.01 -o out.raw";
    let child = command(at, line).spawn().unwrap();
    let journal = at.join("out.raw.partial.json");
    while !fs::read_to_string(&journal).is_ok_and(|j| !j.contains("\"rows\":0,")) {
        sleep(Duration::from_millis(1));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("rows are safe: run it again with --resume to complete out.raw"), "{message}");
    good(at, &format!("{line} --resume -q"));
    assert_eq!(fs::metadata(at.join("out.raw")).unwrap().len(), TEXTS as u64 * 4 * 32 * 4);
}

#[test]
fn an_error_keeps_the_rows_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let rows: String = (0..3000).map(|i| format!("{{\"text\":\"row {i}\"}}\n")).collect();
    fs::write(at.join("in.jsonl"), format!("{rows}{{\"txt\":1}}\n{{\"text\":\"end\"}}\n")).unwrap();
    let line = "embed -i in.jsonl -m $STATIC -o out.raw";
    let ran = run(at, line);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("in.jsonl:3001") && ran.err.contains("3000 rows are safe"), "{}", ran.err);
    fs::write(at.join("in.jsonl"), format!("{rows}{{\"text\":\"mended\"}}\n{{\"text\":\"end\"}}\n")).unwrap();
    good(at, &format!("{line} --resume -q"));
    good(at, "embed -i in.jsonl -m $STATIC -o whole.raw -q");
    assert!(fs::read(at.join("out.raw")).unwrap() == fs::read(at.join("whole.raw")).unwrap());
}
